package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"pillarbox/backup"
)

// IsTape tells that a place of backups is a stream of sets, as backup --to - writes it: a file, or - for
// an input.
func IsTape(from string) bool {
	if from == "-" {
		return true
	}
	info, err := os.Stat(from)
	return err == nil && info.Mode().IsRegular()
}

// Tape is a stream of sets that is read.
type Tape struct {
	// From is the file, or - for In.
	From string
	In   io.Reader
	// Identity is the file that opens an encrypted stream.
	Identity string
	Progress func(done, total int64)
}

// receive takes the sets, and reads to the end, so that who writes it comes to an end too.
func (t *Tape) receive(
	ctx context.Context, open func(backup.Begin) (backup.Target, error),
) (sets []*backup.Manifest, err error) {
	keys, err := backup.LoadKeys(t.Identity)
	if err != nil {
		return nil, err
	}
	in := t.In
	if t.From != "-" {
		f, err := os.Open(t.From)
		if err != nil {
			return nil, err
		}
		defer func() { err = errors.Join(err, f.Close()) }()
		in = f
	}
	plain, err := backup.OpenTape(in, keys)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", t.From, err)
	}
	sets, err = backup.ReceiveAll(ctx, plain, backup.Receiving{Open: open, Progress: t.Progress})
	if err == nil {
		_, err = io.Copy(io.Discard, plain)
	}
	if err = errors.Join(err, plain.Close()); err != nil {
		return sets, fmt.Errorf("%s: %w", t.From, err)
	}
	return sets, nil
}

// Verify proves every file of every set of the stream, and returns their ids.
func (t *Tape) Verify(ctx context.Context, progress func(id string)) (ids []string, err error) {
	sets, err := t.receive(ctx, func(b backup.Begin) (backup.Target, error) {
		progress(b.ID)
		return &backup.Checker{}, nil
	})
	for _, m := range sets {
		ids = append(ids, m.ID)
	}
	return ids, err
}

// Unpack makes a folder of sets of the stream, below the folder in. Who calls removes it.
func (t *Tape) Unpack(ctx context.Context, in string) (dir string, err error) {
	if dir, err = os.MkdirTemp(in, "pillarbox-sets-"); err != nil {
		return "", err
	}
	_, err = t.receive(ctx, func(b backup.Begin) (backup.Target, error) {
		return backup.NewWriter(dir, b.ID, b.Group, backup.Codec{})
	})
	if err != nil {
		return "", errors.Join(err, os.RemoveAll(dir))
	}
	return dir, nil
}
