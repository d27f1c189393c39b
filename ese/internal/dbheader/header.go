package dbheader

import (
	"encoding/binary"
	"errors"
	"fmt"

	"pillarbox/ese/internal/logrec"
	"pillarbox/ese/internal/page"
)

// The sentinels of Parse and Read.
var (
	ErrNotDatabase = errors.New("not a database file")
	ErrChecksum    = errors.New("database header checksum mismatch")
	ErrVersion     = errors.New("database format version not supported")
	ErrPageSize    = errors.New("database page size not supported")
)

const (
	magic     = 0x89abcdef
	fieldsEnd = 668 // nothing is written from here on
	minPage   = 2048
	maxPage   = 32768

	// FormatVersion is the only major version there is.
	FormatVersion = 0x620
	// FormatRevision is the revision Pillarbox writes (Windows 8, Exchange 2013).
	FormatRevision = 0x14

	revisionLargePages = 0x11
	attribDatabase     = 0
)

// State is the state of a database.
type State uint32

// The states.
const (
	JustCreated       State = 1
	DirtyShutdown     State = 2
	CleanShutdown     State = 3
	BeingConverted    State = 4
	ForceDetach       State = 5
	IncrementalReseed State = 6
	DirtyAndPatched   State = 7
	RevertInProgress  State = 8
)

// String is the label eseutil prints.
func (s State) String() string {
	switch s {
	case JustCreated:
		return "Just Created"
	case DirtyShutdown:
		return "Dirty Shutdown"
	case CleanShutdown:
		return "Clean Shutdown"
	case BeingConverted:
		return "Being Converted"
	case ForceDetach:
		return "Force Detach"
	case IncrementalReseed:
		return "Incremental Reseed In Progress"
	case DirtyAndPatched:
		return "Dirty And Patched Shutdown"
	case RevertInProgress:
		return "Revert In Progress"
	}
	return fmt.Sprintf("State(%d)", uint32(s))
}

// The database flags.
const (
	FlagShadowDisabled  = 0x00000001
	FlagUpgrade         = 0x00000002
	FlagESENT           = 0x01000000
	FlagESE             = 0x02000000
	FlagPrivateAttached = 0x04000000
)

// Backup describes one backup.
type Backup struct {
	Mark    logrec.LogPos
	Time    logrec.LogTime
	GenLow  uint32
	GenHigh uint32
}

// Count is an event counter with the time of the last event and the count before the last
// repair or defragmentation.
type Count struct {
	N    uint32
	Time logrec.LogTime
	Old  uint32
}

// Stamp is a counter with a time.
type Stamp struct {
	N    uint32
	Time logrec.LogTime
}

// Header is the content of a database header.
type Header struct {
	Version         uint32
	Attrib          uint32
	DBTime          page.DBTime
	Signature       logrec.Signature
	State           State
	Consistent      logrec.LogPos
	ConsistentTime  logrec.LogTime
	AttachTime      logrec.LogTime
	Attach          logrec.LogPos
	DetachTime      logrec.LogTime
	Detach          logrec.LogPos
	DBID            uint32
	LogSignature    logrec.Signature
	FullBackup      Backup
	IncBackup       Backup
	CurrentBackup   Backup
	Flags           uint32
	LastObjID       page.ObjID
	OSMajor         uint32
	OSMinor         uint32
	OSBuild         uint32
	OSServicePack   uint32
	Revision        uint32
	PageSize        uint32
	Repair          Stamp
	StreamSignature logrec.Signature // of the .stm file that belongs to the database
	ScrubDBTime     page.DBTime
	ScrubTime       logrec.LogTime
	MinRequired     uint32 // first log generation recovery needs, 0 when clean
	MaxRequired     uint32
	Upgrade55       [3]uint32
	SnapshotBackup  Backup
	CreatedVersion  uint32
	CreatedRevision uint32
	MaxCreateTime   logrec.LogTime // creation time of generation MaxCommitted
	FullBackupType  uint32
	IncBackupType   uint32
	OldRepairCount  uint32
	ECCFixes        Count
	ECCFailures     Count
	BadChecksums    Count
	MaxCommitted    uint32 // last generation that can have records of this database
	CopyBackup      Backup
	DiffBackup      Backup
	CopyBackupType  uint32
	DiffBackupType  uint32
	Reseeds         Count
	Patches         Count
	SortVersion     uint64
	ScanPrevious    logrec.LogTime
	ScanStart       logrec.LogTime
	ScanContinuous  page.No
	Recovering      uint32
	Extends         Stamp
	Shrinks         Stamp
	ReattachTime    logrec.LogTime
	Reattach        logrec.LogPos
	TrimCount       uint32
	HeaderFlush     logrec.Signature
	FlushMapFlush   logrec.Signature
	MinConsistent   uint32
	RevisionMinor   uint32
	EngineAttach    uint32
	ScanHighest     page.No
	LastResize      logrec.LogPos
	FileType        uint8
}

// layout names the place of every field once, for both directions.
func (h *Header) layout(c *codec) {
	h.layoutIdentity(c)
	h.layoutHistory(c)
	h.layoutCounters(c)
}

func (h *Header) layoutIdentity(c *codec) {
	c.u32(8, &h.Version)
	c.u32(12, &h.Attrib)
	c.u64(16, (*uint64)(&h.DBTime))
	c.signature(24, &h.Signature)
	c.u32(52, (*uint32)(&h.State))
	c.u64(56, (*uint64)(&h.Consistent))
	c.time(64, &h.ConsistentTime)
	c.time(72, &h.AttachTime)
	c.u64(80, (*uint64)(&h.Attach))
	c.time(88, &h.DetachTime)
	c.u64(96, (*uint64)(&h.Detach))
	c.u32(104, &h.DBID)
	c.signature(108, &h.LogSignature)
	c.backup(136, &h.FullBackup)
	c.backup(160, &h.IncBackup)
	c.backup(184, &h.CurrentBackup)
	c.u32(208, &h.Flags)
	c.u32(212, (*uint32)(&h.LastObjID))
	c.u32(216, &h.OSMajor)
	c.u32(220, &h.OSMinor)
	c.u32(224, &h.OSBuild)
	c.u32(228, &h.OSServicePack)
	c.u32(232, &h.Revision)
	c.u32(236, &h.PageSize)
}

func (h *Header) layoutHistory(c *codec) {
	c.stamp(240, &h.Repair)
	c.signature(252, &h.StreamSignature)
	c.u64(280, (*uint64)(&h.ScrubDBTime))
	c.time(288, &h.ScrubTime)
	c.u32(296, &h.MinRequired)
	c.u32(300, &h.MaxRequired)
	for i := range h.Upgrade55 {
		c.u32(304+4*i, &h.Upgrade55[i])
	}
	c.backup(316, &h.SnapshotBackup)
	c.u32(340, &h.CreatedVersion)
	c.u32(344, &h.CreatedRevision)
	c.time(348, &h.MaxCreateTime)
	c.u32(356, &h.FullBackupType)
	c.u32(360, &h.IncBackupType)
	c.u32(364, &h.OldRepairCount)
	c.count(368, &h.ECCFixes)
	c.count(384, &h.ECCFailures)
	c.count(400, &h.BadChecksums)
	c.u32(416, &h.MaxCommitted)
	c.backup(420, &h.CopyBackup)
	c.backup(444, &h.DiffBackup)
	c.u32(468, &h.CopyBackupType)
	c.u32(472, &h.DiffBackupType)
}

func (h *Header) layoutCounters(c *codec) {
	c.count(476, &h.Reseeds)
	c.count(492, &h.Patches)
	c.u64(508, &h.SortVersion)
	c.time(516, &h.ScanPrevious)
	c.time(524, &h.ScanStart)
	c.u32(532, (*uint32)(&h.ScanContinuous))
	c.u32(536, &h.Recovering)
	c.stamp(540, &h.Extends)
	c.stamp(552, &h.Shrinks)
	c.time(564, &h.ReattachTime)
	c.u64(572, (*uint64)(&h.Reattach))
	c.u32(580, &h.TrimCount)
	c.signature(584, &h.HeaderFlush)
	c.signature(612, &h.FlushMapFlush)
	c.u32(640, &h.MinConsistent)
	c.u32(644, &h.RevisionMinor)
	c.u32(648, &h.EngineAttach)
	c.u32(652, (*uint32)(&h.ScanHighest))
	c.u64(656, (*uint64)(&h.LastResize))
	c.u8(667, &h.FileType)
}

// The file types that share this header.
const (
	FileTypeDatabase = 1
	FileTypeStream   = 2
)

// New returns the header of an empty database of the revision Pillarbox writes. The caller
// sets signatures, times and positions.
func New(pageSize int) Header {
	return Header{
		Version: FormatVersion, Attrib: attribDatabase, State: JustCreated, DBID: 1,
		Revision: FormatRevision, PageSize: uint32(pageSize), CreatedVersion: FormatVersion,
		CreatedRevision: FormatRevision, FileType: FileTypeDatabase,
	}
}

// Encode writes the header over a whole page and seals it.
func (h *Header) Encode(p []byte) {
	clear(p)
	binary.LittleEndian.PutUint32(p[4:], magic)
	h.layout(&codec{b: p, encode: true})
	binary.LittleEndian.PutUint32(p, page.XOR32(p))
}

// Parse decodes a header page, which has the database's page size.
func Parse(p []byte) (Header, error) {
	if len(p) < minPage || binary.LittleEndian.Uint32(p[4:]) != magic {
		return Header{}, ErrNotDatabase
	}
	if sum := page.XOR32(p); sum != binary.LittleEndian.Uint32(p) {
		return Header{}, fmt.Errorf("%w: stored %08x, computed %08x", ErrChecksum,
			binary.LittleEndian.Uint32(p), sum)
	}
	var h Header
	h.layout(&codec{b: p})
	if h.PageSize == 0 {
		h.PageSize = 4096 // as files before the field was there
	}
	switch {
	case h.Attrib != attribDatabase || h.FileType > FileTypeStream:
		return Header{}, fmt.Errorf("%w: attribute %d, file type %d", ErrNotDatabase,
			h.Attrib, h.FileType)
	case h.Version != FormatVersion:
		return Header{}, fmt.Errorf("%w: %#x,%#x", ErrVersion, h.Version, h.Revision)
	case !validPageSize(h.PageSize) || (h.Revision < revisionLargePages && h.PageSize > 8192):
		return Header{}, fmt.Errorf("%w: %d", ErrPageSize, h.PageSize)
	case int(h.PageSize) != len(p):
		return Header{}, fmt.Errorf("%w: %d in a header of %d", ErrPageSize, h.PageSize, len(p))
	}
	return h, nil
}

func validPageSize(n uint32) bool { return n >= minPage && n <= maxPage && n&(n-1) == 0 }
