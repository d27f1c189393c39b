package ese

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"pillarbox/ese/internal/dbheader"
	"pillarbox/ese/internal/logrec"
	"pillarbox/ese/internal/wal"
)

// MissingLogsError lists the log generations that recovery needs and that are not there.
type MissingLogsError struct {
	Dir, Base   string
	Generations []uint32
	Err         error // what recovery met first
}

func (e *MissingLogsError) Error() string {
	var names []string
	for i := 0; i < len(e.Generations); {
		j := i
		for j+1 < len(e.Generations) && e.Generations[j+1] == e.Generations[j]+1 {
			j++
		}
		name := wal.NumberedName(e.Base, e.Generations[i])
		if j < i+2 {
			j = i
		} else {
			name += " to " + wal.NumberedName(e.Base, e.Generations[j])
		}
		names = append(names, name)
		i = j + 1
	}
	return fmt.Sprintf("%v in %s: %s (the newest may be called %s.log): put them there from a backup "+
		"or an archive, or restore; if they are gone for good and the newest, accept the loss "+
		"(eseutil /r /a, pillarbox group mount --accept-loss)", logrec.ErrMissingLog, e.Dir,
		strings.Join(names, ", "), e.Base)
}

// Unwrap makes it an ErrMissingLog.
func (e *MissingLogsError) Unwrap() error {
	if e.Err == nil {
		return logrec.ErrMissingLog
	}
	return e.Err
}

// missingLogs lists what is missing from the first generation that is needed to the last that is
// there or is known to have been. first is what recovery met.
func (o *Options) missingLogs(gens []wal.GenInfo, first error) error {
	low, high := o.requiredLog(gens[0].Header.Sign)
	have := make(map[uint32]bool)
	for i, g := range gens {
		have[g.Gen] = true
		if low == 0 && i == 0 {
			low = g.Gen
		}
		high = max(high, g.Gen)
	}
	e := &MissingLogsError{Dir: o.LogDir, Base: o.Base, Err: first}
	const most = 1 << 20
	for n := low; n > 0 && n <= high && len(e.Generations) < most; n++ {
		if !have[n] {
			e.Generations = append(e.Generations, n)
		}
	}
	if len(e.Generations) == 0 {
		return first
	}
	return e
}

// requiredLog is what checkpoint and database headers say of the log: the first generation that
// recovery needs, and the last that surely was begun. 0, 0 when nothing tells.
func (o *Options) requiredLog(sign logrec.Signature) (low, high uint32) {
	in := Instance{o: *o}
	names := make(map[string]bool)
	if c, err := wal.ReadCheckpoint(o.FS, in.checkpointPath()); err == nil && c.Sign == sign {
		low, high = c.Pos.Generation(), c.Pos.Generation()
		for _, a := range c.Attachments {
			names[a.Path] = true
		}
	}
	found, _ := o.FS.ReadDir(o.Dir) // opening says what is wrong with the folder
	for _, n := range found {
		if filepath.Ext(n) == ".edb" {
			names[n] = true
		}
	}
	for _, n := range o.Databases {
		names[n] = true
	}
	checkpoint := low != 0
	for n := range names {
		h, err := o.readHeader(in.dbPath(n))
		if err != nil || h.State == dbheader.CleanShutdown || h.LogSignature != sign {
			continue
		}
		if !checkpoint && (low == 0 || h.MinRequired < low) {
			low = h.MinRequired
		}
		high = max(high, h.MaxRequired)
		if h.MaxCommitted > 0 {
			high = max(high, h.MaxCommitted-1) // the last may only have been prepared
		}
	}
	return low, high
}

func (o *Options) readHeader(path string) (dbheader.Header, error) {
	f, err := o.FS.OpenFile(path, os.O_RDONLY, 0)
	if err != nil {
		return dbheader.Header{}, err
	}
	h, _, err := dbheader.Read(f)
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	return h, err
}
