// Package backup keeps sets: what one backup of a storage group leaves behind, and the folder
// that holds many of them (docs/backup.md).
//
// Manifest says what a set holds. Writer makes one in a folder, Stream one as a tar stream;
// Receive takes a tar stream apart into either. Shelf is a folder of sets: what it can reach,
// whether it is whole, what it can do without. Codec compresses and encrypts files.
//
//	DIR/20261125T030000Z-store-full/
//	    priv1.edb priv1.stm E00.chk E0000002.log ...   the engine's, as it wrote them
//	    server/pillarbox.toml server/tls/...           what a new machine needs besides
//	    manifest.json                                  last: without it there is no set
//
// Invariants:
//  1. A set exists from the moment its manifest is in place, and that is after every other file
//     is durable and its hash is what the engine counted.
//  2. Folders have mode 0700, files 0600.
//  3. Nothing in a set changes afterwards. Removing one begins with its manifest.
//  4. What is pruned is needed for no moment that is to be kept.
//  5. Bytes of a set or stream are believed only after their hash, which a restore compares while it
//     copies; names never leave the folder.
//
// It knows no mail, no config and no running server.
package backup
