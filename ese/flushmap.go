package ese

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"os"

	"pillarbox/ese/internal/logrec"
	"pillarbox/ese/vfs"
)

// The flush map file (docs/format-edb.md, "Flush map").
const (
	flushMagic  = 0x4d464a50 // "PJFM"
	flushHeader = 4096
	flushType   = 7
)

func flushSum(b []byte) uint32 {
	return crc32.Checksum(b[4:], crc32.MakeTable(crc32.Castagnoli))
}

// saveFlushMap writes what is known of the last writes of the database's pages, and returns the
// signature that binds it to the header. It is only a help: without it, and with a signature
// of zero, the next opening trusts each page when it first reads it.
func (db *Database) saveFlushMap() logrec.Signature {
	sign := db.in.newSignature()
	bits := db.file.FlushMap()
	b := make([]byte, flushHeader+len(bits))
	le := binary.LittleEndian
	le.PutUint32(b[4:], flushMagic)
	le.PutUint32(b[8:], uint32(db.in.o.PageSize))
	le.PutUint32(b[12:], uint32(len(bits)))
	db.headerMu.Lock()
	own := db.header.Signature
	db.headerMu.Unlock()
	own.Encode(b[16:])
	sign.Encode(b[44:])
	le.PutUint64(b[72:], uint64(db.file.DBTime()))
	b[667] = flushType
	copy(b[flushHeader:], bits)
	le.PutUint32(b, flushSum(b))
	if err := writeWhole(db.in.o.FS, sidePath(db.path, ".jfm"), b); err != nil {
		db.in.o.Logger.Warn("flush map not written", "database", db.name, "error", err)
		return logrec.Signature{}
	}
	return sign
}

// writeWhole makes a file that holds b, durably but for its name.
func writeWhole(fsys vfs.FS, path string, b []byte) error {
	f, err := fsys.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(b, 0)
	if err == nil {
		err = f.SyncData()
	}
	return errors.Join(err, f.Close())
}

// loadFlushMap takes over the flush map that a clean end has left, if it is that one.
func (db *Database) loadFlushMap(sign logrec.Signature) {
	if sign == (logrec.Signature{}) {
		return
	}
	f, err := db.in.o.FS.OpenFile(sidePath(db.path, ".jfm"), os.O_RDONLY, 0)
	if err != nil {
		return
	}
	defer func() { _ = f.Close() }()
	b := make([]byte, flushHeader+int(db.file.Pages())/4+1)
	n, err := f.ReadAt(b, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return
	}
	if bits, ok := decodeFlushMap(b[:n], &db.header, sign); ok {
		db.file.SetFlushMap(bits)
	}
}

// decodeFlushMap returns the map in a file, when it is whole and that of the database's last
// clean end: the dbtime tells where a version without flush maps has changed pages since.
func decodeFlushMap(b []byte, h *header, flush logrec.Signature) (bits []byte, ok bool) {
	le := binary.LittleEndian
	if len(b) < flushHeader || le.Uint32(b) != flushSum(b) || le.Uint32(b[4:]) != flushMagic ||
		le.Uint32(b[8:]) != h.PageSize || int(le.Uint32(b[12:])) != len(b)-flushHeader ||
		logrec.DecodeSignature(b[16:]) != h.Signature || logrec.DecodeSignature(b[44:]) != flush ||
		le.Uint64(b[72:]) != uint64(h.DBTime) {
		return nil, false
	}
	return b[flushHeader:], true
}
