package ese

import (
	"fmt"
	"log/slog"
	"math"
	"time"

	"pillarbox/ese/internal/logrec"
	"pillarbox/ese/vfs"
)

// Options configures an Instance. Only Dir must be set.
type Options struct {
	// Dir is the system path: checkpoint, lock, and the databases whose names are not paths.
	Dir string
	// LogDir holds the log files. Default: Dir.
	LogDir string
	// CheckpointDir holds the checkpoint file. Default: Dir.
	CheckpointDir string
	// Databases are names, as OpenDatabase takes them, of databases that the log may belong to.
	// They are asked only where the checkpoint is lost; those in Dir are found without.
	Databases []string
	// ReadOnly opens databases that were closed clean, for reading: no file is written, and no
	// log is needed. A database in Dirty Shutdown is refused: open it for writing, which
	// recovers it.
	ReadOnly bool
	// FS is the file system. Default: the operating system's.
	FS vfs.FS
	// Base is the three-letter base name of log and checkpoint files. Default: E00.
	Base string
	// PageSize in bytes: 4096, 8192, 16384 or 32768. Default: 8192. All databases of an
	// instance have the same.
	PageSize int
	// GenerationBytes is the size of a new log file, a multiple of 4 KiB: at least 64 KiB and
	// eight pages, at most 255 MiB. It may differ from one opening to the next. Default: 5 MiB.
	GenerationBytes int64
	// CacheBytes bounds the page cache, which lies outside the Go heap. Default: 64 MiB.
	CacheBytes int64
	// StreamBytes bounds the stream data of each database that waits to be written.
	// Default: 16 MiB.
	StreamBytes int64
	// VersionBytes bounds the memory of the version store. When half of it is used, earlier
	// states of rows go to a temporary file in Dir. Default: 64 MiB.
	VersionBytes int64
	// VersionFileBytes bounds that file; negative: there is none. Default: 1 GiB.
	VersionFileBytes int64
	// TxVersionBytes bounds what one transaction may change: the earlier states of its rows, in
	// memory and file. Default: VersionBytes and VersionFileBytes together.
	TxVersionBytes int64
	// TxLimit is how long a transaction may read and change: after that it gets ErrTxTooLong, and
	// an event names it. Default: 1 hour; negative: for ever.
	TxLimit time.Duration
	// CheckpointDepth is how much log recovery may have to replay: pages changed longer ago are
	// written. Default: 128 MiB.
	CheckpointDepth int64
	// LogKeep is how many bytes of log below the checkpoint are kept while no backup needs
	// them. Default: 2 GiB. Circular keeps none.
	LogKeep  int64
	Circular bool
	// ArchiveKeep is how many bytes of log stay, with circular logging too, while the owner's
	// archive has not taken them (Instance.Archived, which may change it). Default: 0, there is no
	// archive.
	ArchiveKeep int64
	// DiskFullLimit is how long changes are refused for want of log space before the databases
	// are dismounted clean. Default: 10 minutes; negative: never.
	DiskFullLimit time.Duration
	// ScrubEvery is how often every page of a database is verified in the background, leaves with
	// little on them are merged and space is given back. Default: 7 days; negative: only on
	// Database.StartScrub.
	ScrubEvery time.Duration
	// ScrubRate bounds what a scrub reads, in bytes a second. Default: 4 MiB.
	ScrubRate int64
	// DefragmentFree is how much of a database may be free pages, in percent: where a scrub ends
	// with more, pages in use are moved to the front and the file is cut. Default: 25; negative:
	// only on Database.StartDefragment.
	DefragmentFree int
	// DefragmentRate bounds what that reads and moves, in bytes a second. Default: 4 MiB.
	DefragmentRate int64
	// Computer is the name in new signatures. Default: empty.
	Computer string
	// Logger receives state changes. Default: discard.
	Logger *slog.Logger
	// Observer receives the events of the instance, one at a time in each of its goroutines. It
	// may be called with locks held: it must return soon and not call the instance.
	Observer func(Event)
	// Now is the clock. Default: time.Now.
	Now func() time.Time
	// Rand makes random numbers for signatures. Default: crypto/rand.
	Rand func() uint32
	// Manual starts no goroutine: the owner calls Step. For simulation.
	Manual bool
	// Locate says where a database lies that the log knows by another path: one restored to
	// another place. Default: where the log says.
	Locate func(name string) string
	// IgnoreMissing lets recovery go on without databases that are not there. They are lost until
	// they are restored, or there again when the group is opened next (Instance.Lost).
	IgnoreMissing bool

	// AcceptLoss lets recovery go on without the newest generations of the log where they are
	// gone, if the databases need nothing of them: up to the last commit before, on a new log
	// stream. Loss tells what was given up. Else it is refused.
	AcceptLoss bool

	// The stream that a new one leaves, and where: set by Restore.
	parent logrec.Signature
	fork   LogPos
}

func (o Options) withDefaults() (Options, error) {
	if o.Dir == "" {
		return o, fmt.Errorf("ese: Options need Dir")
	}
	if o.LogDir == "" {
		o.LogDir = o.Dir
	}
	if o.CheckpointDir == "" {
		o.CheckpointDir = o.Dir
	}
	if o.FS == nil {
		o.FS = vfs.OS()
	}
	if o.Base == "" {
		o.Base = "E00"
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	setDefault(&o.PageSize, 8192)
	setDefault(&o.GenerationBytes, 5<<20)
	setDefault(&o.CacheBytes, 64<<20)
	setDefault(&o.StreamBytes, 16<<20)
	setDefault(&o.VersionBytes, 64<<20)
	setDefault(&o.VersionFileBytes, 1<<30)
	setDefault(&o.TxVersionBytes, o.VersionBytes+max(o.VersionFileBytes, 0))
	setDefault(&o.CheckpointDepth, 128<<20)
	setDefault(&o.LogKeep, 2<<30)
	setDefault(&o.TxLimit, time.Hour)
	setDefault(&o.DiskFullLimit, 10*time.Minute)
	setDefault(&o.ScrubEvery, 7*24*time.Hour)
	setDefault(&o.ScrubRate, 4<<20)
	setDefault(&o.DefragmentFree, 25)
	setDefault(&o.DefragmentRate, 4<<20)
	return o, o.check()
}

// check refuses options that cannot be.
func (o *Options) check() error {
	switch o.PageSize {
	case 4096, 8192, 16384, 32768:
	default:
		return fmt.Errorf("ese: pages of %d bytes cannot be written: 4096, 8192, 16384 or 32768",
			o.PageSize)
	}
	if least := int64(8 * o.PageSize); o.GenerationBytes < least {
		return fmt.Errorf("ese: log files of %d bytes are too short for pages of %d: at least %d",
			o.GenerationBytes, o.PageSize, least)
	}
	if o.CacheBytes > math.MaxInt {
		return fmt.Errorf("ese: a cache of %d bytes is more than this system can address", o.CacheBytes)
	}
	for name, n := range map[string]int64{
		"CacheBytes": o.CacheBytes, "StreamBytes": o.StreamBytes, "VersionBytes": o.VersionBytes,
		"TxVersionBytes":  o.TxVersionBytes,
		"CheckpointDepth": o.CheckpointDepth, "LogKeep": o.LogKeep, "ArchiveKeep": o.ArchiveKeep,
	} {
		if n < 0 {
			return fmt.Errorf("ese: %s is negative", name)
		}
	}
	return nil
}

// largePages tells that the database has the layout of 16 and 32 KiB pages.
func (in *Instance) largePages() bool { return in.o.PageSize > 8192 }

func setDefault[T ~int | ~int64](p *T, v T) {
	if *p == 0 {
		*p = v
	}
}
