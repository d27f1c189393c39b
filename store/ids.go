package store

import (
	"fmt"
	"time"
)

// MailboxID names a mailbox everywhere: the GUID of its owner in the directory.
type MailboxID [16]byte

// String writes the GUID's bytes in hexadecimal.
func (id MailboxID) String() string { return fmt.Sprintf("%x", id[:]) }

// FolderID names a folder in its mailbox. It is never given twice.
type FolderID int64

// UID numbers a message in its folder (RFC 3501 2.3.1.1).
type UID uint32

// CN is a change number of a mailbox: IMAP's MODSEQ.
type CN uint64

// EmailID and ThreadID name what a message is, whichever folders hold it (RFC 8474).
type (
	EmailID  int64
	ThreadID int64
)

// The identifiers that every mailbox has from its creation. Those of Exchange's special
// folders are kept free below firstID.
const (
	rootFolder FolderID = 1 // hidden, holds all others
	ipmFolder  FolderID = 9 // hidden, holds those that mail clients see
	// recoverableFolder is hidden and holds messages that were deleted. It is made when the
	// first one is.
	recoverableFolder FolderID = 0x40
)

// firstID is the first identifier that is given to anything new.
const firstID = 0x100

// UIDRange is a range of UIDs, both ends included. Sets are ascending and do not overlap.
type UIDRange struct{ First, Last UID }

// Flags are the system flags of a message.
type Flags uint32

// System flags (RFC 3501 2.3.2, RFC 5788).
const (
	FlagSeen Flags = 1 << iota
	FlagAnswered
	FlagFlagged
	FlagDeleted
	FlagDraft
	FlagForwarded // the keyword $Forwarded
	FlagMDNSent   // the keyword $MDNSent (RFC 3503)
)

// Role is a folder's special use (RFC 6154).
type Role uint8

// Roles.
const (
	RoleNone Role = iota
	RoleInbox
	RoleDrafts
	RoleSent
	RoleTrash
	RoleJunk
	RoleArchive
)

// standard is a folder that every new mailbox has (mail.md 22).
type standard struct {
	fid  FolderID
	name string
	role Role
}

func standardFolders() []standard {
	return []standard{
		{0x0d, inboxName, RoleInbox},
		{0x0e, "Drafts", RoleDrafts},
		{0x0a, "Sent", RoleSent},
		{0x0b, "Trash", RoleTrash},
		{0x17, "Junk", RoleJunk},
		{0x30, "Archive", RoleArchive},
	}
}

// millis is how times are stored.
func millis(t time.Time) int64 { return t.UnixMilli() }

func fromMillis(ms int64) time.Time { return time.UnixMilli(ms).UTC() }
