package archive

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"
)

// ownerName is the file that says who writes a log stream in the archive.
const ownerName = "owner.json"

// Owner is who writes a log stream in an archive.
type Owner struct {
	// ID is random, and new whenever the writer begins.
	ID string `json:"id"`
	// Machine tells machines apart; empty where that is not known.
	Machine string `json:"machine,omitempty"`
	// Computer, Dir and Group are for people.
	Computer string    `json:"computer"`
	Dir      string    `json:"dir"`
	Group    string    `json:"group"`
	Since    time.Time `json:"since"`
}

// String says who it is.
func (o *Owner) String() string {
	return fmt.Sprintf("%s (data in %s), since %s", o.Computer, o.Dir, o.Since.UTC().Format(time.DateTime))
}

// Owner is who writes the stream; nil when nobody does.
func (s *Stream) Owner(ctx context.Context) (*Owner, error) {
	text, err := s.Store.Read(ctx, s.folder, ownerName)
	if errors.Is(err, ErrGone) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("see who writes the archive: %w", err)
	}
	o := &Owner{}
	if err = json.Unmarshal(text, o); err == nil && o.ID == "" {
		err = errors.New("it has no id")
	}
	if err != nil {
		return nil, fmt.Errorf("see who writes the archive: %s/%s in %s cannot be read: %w; remove it if no "+
			"other server writes there", s.folder, ownerName, s.Store, err)
	}
	return o, nil
}

// SetOwner says who writes the stream from now on.
func (s *Stream) SetOwner(ctx context.Context, o *Owner) error {
	text, err := json.MarshalIndent(o, "", "  ")
	if err != nil {
		return err
	}
	text = append(text, '\n')
	if err := s.Store.Put(ctx, s.folder, ownerName, text, int64(len(text))); err != nil {
		return fmt.Errorf("become the writer of the archive: %w", err)
	}
	return nil
}

// ErrNotOurs: the archive has log that did not come from here.
var ErrNotOurs = errors.New("the archive holds log of this log stream that this server does not have: " +
	"another server has written it, or this one was put back to an earlier state")

// Tip is how far a server's log goes, and what it has of it.
type Tip struct {
	// Current is the generation that is being written, Used how much of it is durable.
	Current uint32
	Used    int64
	// Own reads a generation; nil when it is gone.
	Own func(gen uint32) ([]byte, error)
}

// CheckTip proves that the newest log in the archive is the beginning of the server's: log is only ever
// added to, so nothing else can come from the same history. ErrNotOurs when it is not.
func (s *Stream) CheckTip(ctx context.Context, t Tip) error {
	names, err := s.Store.List(ctx, s.folder)
	if err != nil {
		return fmt.Errorf("list the archive: %w", err)
	}
	gens := Generations(names)
	if n := len(gens); n > 0 {
		if err := s.compare(ctx, Name(gens[n-1]), &t, gens[n-1]); err != nil {
			return err
		}
	}
	if !slices.Contains(names, Current) {
		return nil
	}
	return s.compare(ctx, Current, &t, 0)
}

// compare proves that a file is the beginning of the server's generation gen; 0 is what its header says.
func (s *Stream) compare(ctx context.Context, name string, t *Tip, gen uint32) error {
	const header = 4096
	if gen >= t.Current {
		return fmt.Errorf("%w (generation %d is closed there, and is the current one here or still to come)",
			ErrNotOurs, gen)
	}
	theirs, err := s.Store.Read(ctx, s.folder, name)
	if errors.Is(err, ErrGone) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read the archive: %w", err)
	}
	theirs = bytes.TrimRight(theirs, "\x00")
	if gen == 0 {
		if len(theirs) < 8 {
			return nil // nothing yet
		}
		gen = binary.LittleEndian.Uint32(theirs[4:])
	}
	if gen > t.Current {
		return fmt.Errorf("%w (generation %d is there, the newest here is %d)", ErrNotOurs, gen, t.Current)
	}
	own, err := t.Own(gen)
	if err != nil || own == nil {
		return err
	}
	limit := int64(len(own))
	if gen == t.Current {
		limit = max(t.Used, header)
	}
	if int64(len(theirs)) > limit || !bytes.HasPrefix(own, theirs) {
		return fmt.Errorf("%w (generation %d is another one there)", ErrNotOurs, gen)
	}
	return nil
}
