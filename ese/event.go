package ese

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"pillarbox/ese/internal/cache"
	"pillarbox/ese/internal/page"
	"pillarbox/ese/internal/wal"
)

// EventID is the number of a kind of event; numbers never change their meaning.
type EventID uint16

// The events (docs/recovery.md, "Events").
const (
	EventRecoveryBegun    EventID = 100 // Pos: from where
	EventRecoveryProgress EventID = 101 // Gen is being replayed, of N
	EventRecoveryEnded    EventID = 102 // Pos: up to where; N changes made again; Took
	EventLogGivenUp       EventID = 103 // generations Gen to N are lost; Pos, Until: what is there
	EventLogRolled        EventID = 200 // Gen was closed
	EventLogRollWaited    EventID = 201 // somebody waited for Gen to be prepared
	EventLogNotPrepared   EventID = 202 // Gen: Err; it is tried again
	EventLogFull          EventID = 203 // changes are refused: Err
	EventLogSpaceBack     EventID = 204 // changes are taken again
	EventLogReserveUsed   EventID = 205 // Gen is a reserve file
	EventLogRemoved       EventID = 206 // generations below Gen are gone
	EventLogNotArchived   EventID = 207 // generations below Gen are gone, N of them not archived
	EventCheckpoint       EventID = 300 // Pos: recovery would begin there
	EventTxTooLong        EventID = 310 // transaction N (0: a read-only one) is open for Took
	EventVersionsFull     EventID = 311 // changes were refused: N bytes are kept; Err
	EventAttached         EventID = 400 // Database
	EventDetached         EventID = 401 // Database, in Clean Shutdown
	EventDatabaseLost     EventID = 402 // Database is missing: the others go on
	EventPageRepaired     EventID = 500 // Database, Page: one flipped bit
	EventPageDamaged      EventID = 501 // Database, Page: Err
	EventLostWrite        EventID = 502 // Database, Page: Err
	EventScrubBegun       EventID = 510 // Database: N pages
	EventScrubProgress    EventID = 511 // Database: up to Page of N
	EventScrubEnded       EventID = 512 // Database: N pages; Took
	EventDefragBegun      EventID = 520 // Database: N pages
	EventDefragProgress   EventID = 521 // Database: N pages moved so far
	EventDefragEnded      EventID = 522 // Database: N pages moved; Took
	EventFailed           EventID = 900 // Err: the storage group must be opened again
	EventDismounted       EventID = 901 // Err: the log disk was full for too long
)

var eventNames = map[EventID]string{
	EventRecoveryBegun: "recovery begun", EventRecoveryProgress: "recovery: replaying",
	EventRecoveryEnded: "recovery ended", EventLogRolled: "log generation closed",
	EventLogRollWaited:  "log roll waited for preparation",
	EventLogNotPrepared: "log generation not prepared",
	EventLogGivenUp:     "lost log given up: a new log stream begins with the last commit before it",
	EventLogFull:        "log disk full", EventLogSpaceBack: "log has space again",
	EventLogReserveUsed: "log goes on in a reserve file", EventLogRemoved: "old log removed",
	EventLogNotArchived: "log removed that the archive has not taken: it has a gap; " +
		"make a full backup",
	EventTxTooLong:    "transaction open for too long: it keeps log and earlier states of rows",
	EventVersionsFull: "version store full: end old transactions, or raise Options.VersionBytes",
	EventCheckpoint:   "checkpoint moved", EventAttached: "database attached",
	EventDatabaseLost: "database is missing: the others go on, and no log is removed until it is back",
	EventDetached:     "database detached", EventPageRepaired: "page repaired",
	EventPageDamaged: "page damaged", EventLostWrite: "disk lost a write",
	EventScrubBegun: "scrub begun", EventScrubProgress: "scrub goes on",
	EventScrubEnded:  "scrub ended",
	EventDefragBegun: "defragmentation begun", EventDefragProgress: "defragmentation goes on",
	EventDefragEnded: "defragmentation ended",
	EventFailed:      "storage group failed: open it again to recover",
	EventDismounted:  "databases dismounted: make space where the log is and open again",
}

// String names the event.
func (id EventID) String() string {
	if s := eventNames[id]; s != "" {
		return s
	}
	return fmt.Sprintf("event %d", uint16(id))
}

// Event is something that happened inside an instance. Fields that an event does not use are
// zero.
type Event struct {
	ID       EventID
	Time     time.Time
	Database string
	Page     uint32
	Gen      uint32
	Pos      LogPos
	N        uint64
	Took     time.Duration
	Until    time.Time // the newest commit that is there
	Err      error
}

// level is how loud the log is about an event.
func (id EventID) level() slog.Level {
	switch id {
	case EventLogGivenUp, EventDatabaseLost, EventLogNotPrepared, EventLogFull, EventLogNotArchived,
		EventPageDamaged, EventLostWrite, EventFailed,
		EventDismounted:
		return slog.LevelError
	case EventLogRollWaited, EventLogReserveUsed, EventPageRepaired, EventTxTooLong,
		EventVersionsFull:
		return slog.LevelWarn
	case EventCheckpoint, EventScrubProgress, EventDefragProgress, EventLogRemoved:
		return slog.LevelDebug
	}
	return slog.LevelInfo
}

// emit tells the logger and the observer.
func (in *Instance) emit(e Event) {
	e.Time = in.o.Now()
	in.stats.events.Add(1)
	in.o.Logger.LogAttrs(context.Background(), e.ID.level(), e.ID.String(), e.attrs(in.o.Dir)...)
	if in.o.Observer != nil {
		in.o.Observer(e)
	}
}

func (e *Event) attrs(dir string) []slog.Attr {
	out := []slog.Attr{slog.Uint64("event", uint64(e.ID)), slog.String("dir", dir)}
	if e.Database != "" {
		out = append(out, slog.String("database", e.Database))
	}
	for _, f := range []struct {
		name string
		n    uint64
	}{{"page", uint64(e.Page)}, {"generation", uint64(e.Gen)}, {"n", e.N}} {
		if f.n != 0 {
			out = append(out, slog.Uint64(f.name, f.n))
		}
	}
	if e.Pos != 0 {
		out = append(out, slog.String("at", e.Pos.String()))
	}
	if e.Took != 0 {
		out = append(out, slog.Duration("took", e.Took))
	}
	if !e.Until.IsZero() {
		out = append(out, slog.Time("until", e.Until))
	}
	if e.Err != nil {
		out = append(out, slog.Any("error", e.Err))
	}
	return out
}

// logEvent hears what happens to the log. It may run inside an append.
func (in *Instance) logEvent(e wal.Event) {
	id := map[wal.EventKind]EventID{
		wal.EventRolled: EventLogRolled, wal.EventRollWaited: EventLogRollWaited,
		wal.EventPrepareFailed: EventLogNotPrepared, wal.EventFull: EventLogFull,
		wal.EventSpaceBack: EventLogSpaceBack, wal.EventReserveUsed: EventLogReserveUsed,
	}[e.Kind]
	switch e.Kind {
	case wal.EventDead:
		in.fail(e.Err)
		return
	case wal.EventReserveUsed:
		in.logTight.Store(true)
	case wal.EventFull:
		in.fullSince.CompareAndSwap(0, in.o.Now().UnixNano())
	case wal.EventSpaceBack:
		in.fullSince.Store(0)
	}
	in.emit(Event{ID: id, Gen: e.Gen, Err: e.Err})
}

// pageEvent hears of pages that were repaired or are damaged. The page is latched; the header
// is brought up to date later (keepCounts).
func (in *Instance) pageEvent(f *cache.File, no page.No, err error) {
	e := Event{Database: f.Name, Page: uint32(no), Err: err}
	in.dbMu.RLock()
	db := in.dbs[f.DB]
	in.dbMu.RUnlock()
	var pe *cache.PageError
	switch {
	case err == nil:
		e.ID = EventPageRepaired
		in.stats.repaired.Add(1)
		if db != nil {
			db.repaired.Add(1)
		}
	case errors.As(err, &pe) && pe.Blank:
		return // the caller knows what that means
	case errors.Is(err, ErrLostWrite):
		e.ID = EventLostWrite
		in.stats.lostWrites.Add(1)
	default:
		e.ID = EventPageDamaged
		in.stats.damaged.Add(1)
		if db != nil {
			db.damaged.Add(1)
		}
	}
	in.emit(e)
}

// keepCounts notes repaired and damaged pages in the headers.
func (in *Instance) keepCounts() error {
	for _, db := range in.databases() {
		if db.repaired.Load()+db.damaged.Load() == 0 {
			continue
		}
		if err := db.changeHeader(func(*header) {}); err != nil {
			return err
		}
	}
	return nil
}

// countInto moves the counts of repaired and damaged pages into a header.
func (db *Database) countInto(h *header) {
	if n := db.repaired.Swap(0); n > 0 {
		h.ECCFixes.N += n
		h.ECCFixes.Time = db.in.logTime()
	}
	if n := db.damaged.Swap(0); n > 0 {
		h.BadChecksums.N += n
		h.BadChecksums.Time = db.in.logTime()
	}
}
