package wal

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
	"time"

	"pillarbox/ese/internal/logrec"
	"pillarbox/ese/vfs"
)

// Limits of Options (docs/format-log.md, "Positions").
const (
	defaultGenerationBytes = 5 << 20
	minGenerationBytes     = 64 << 10
	maxGenerationBytes     = 65535 * logrec.SectorSize
	defaultBufferBytes     = 8 << 20
	minBufferBytes         = 64 << 10
)

// Options configures a Log. FS, Dir and Base must be set.
type Options struct {
	FS   vfs.FS
	Dir  string
	Base string // "E00"
	// GenerationBytes is the size of new log files, a multiple of 4096. Default: 5 MiB, at
	// least 64 KiB.
	GenerationBytes int64
	// BufferBytes is the size of the ring of log not yet written, rounded up to a power of two.
	// Default: two generations, at most 8 MiB; at least 64 KiB.
	BufferBytes int
	// PageSize of the databases, kept in the file header. Default: 8192.
	PageSize int
	// Computer is the name in the signature of a new stream.
	Computer string
	// Parent and Fork are the stream that a new one leaves, and where; zero for none.
	Parent logrec.Signature
	Fork   logrec.LogPos
	// Now is the clock. Default: time.Now.
	Now func() time.Time
	// Rand makes random numbers for signatures, file keys and nonces. Default: crypto/rand.
	Rand func() uint32
	// Manual starts no goroutine: the owner calls Prepare.
	Manual bool
	// BeforeGeneration is called before generation gen can be used, so that the database headers
	// name it. An error stops the preparation, which is tried again later. It is not called for
	// the first generation of a stream.
	BeforeGeneration func(gen uint32) error
	// OnDurable is called after each sync, in order.
	OnDurable func(logrec.LogPos)
	// OnEvent receives changes of state.
	OnEvent func(Event)
}

func (o Options) withDefaults() (Options, error) {
	if o.FS == nil || o.Base == "" {
		return o, errors.New("wal: Options need FS and Base")
	}
	if o.GenerationBytes == 0 {
		o.GenerationBytes = defaultGenerationBytes
	}
	if o.GenerationBytes < minGenerationBytes || o.GenerationBytes > maxGenerationBytes ||
		o.GenerationBytes%logrec.SectorSize != 0 {
		return o, fmt.Errorf("wal: generation size %d is not a multiple of %d from %d to %d",
			o.GenerationBytes, logrec.SectorSize, minGenerationBytes, maxGenerationBytes)
	}
	if o.BufferBytes == 0 {
		// More than two generations it never holds (invariant 5).
		o.BufferBytes = int(min(defaultBufferBytes, 2*o.GenerationBytes))
	}
	o.BufferBytes = 1 << bits.Len(uint(max(o.BufferBytes, minBufferBytes)-1))
	if o.PageSize == 0 {
		o.PageSize = 8192
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Rand == nil {
		o.Rand = CryptoRand
	}
	return o, nil
}

// CryptoRand is the default of Options.Rand.
func CryptoRand() uint32 {
	var b [4]byte
	_, _ = rand.Read(b[:]) // never fails (crypto/rand)
	return binary.LittleEndian.Uint32(b[:])
}

// EventKind says what happened.
type EventKind uint8

// The events of a log.
const (
	EventRolled        EventKind = 1 // Gen was closed
	EventRollWaited    EventKind = 2 // an append waited for Gen to be prepared
	EventPrepareFailed EventKind = 3 // Gen could not be prepared: Err
	EventDead          EventKind = 4 // a write or sync failed: Err
	EventFull          EventKind = 5 // changes are refused for lack of space: Err
	EventSpaceBack     EventKind = 6 // changes are taken again
	EventReserveUsed   EventKind = 7 // Gen was made of a reserve file, because of Err
)

// Event is a change of state of a Log.
type Event struct {
	Kind EventKind
	Gen  uint32
	Err  error
}

func (l *Log) emit(e Event) {
	if l.o.OnEvent != nil {
		l.o.OnEvent(e)
	}
}
