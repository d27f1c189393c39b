package version

import (
	"errors"
	"fmt"
	"hash/crc32"

	"pillarbox/ese/vfs"
)

// Limits bound what a store keeps.
type Limits struct {
	// Memory is what all changes may take, in bytes. When half of it is used, before-images go
	// to the file, where that can be opened.
	Memory int64
	// File is what before-images may take in the file, in bytes.
	File int64
	// Tx is what one transaction may keep, in memory and file, in bytes.
	Tx int64
	// Open makes the file, empty; nil: nothing is spilled.
	Open func() (vfs.File, error)
	// Repeat makes the hashes of keys the same in each run, so that what the store does is a
	// function of what it is asked. For simulation: it takes away what protects from keys that
	// were chosen to meet in one chain.
	Repeat bool
}

// ErrSpill: the temporary file of the version store cannot be written or read.
var ErrSpill = errors.New("temporary file of the version store")

// minSpill is the shortest before-image that is worth a place in the file, in bytes.
const minSpill = 64

// spilled is where a before-image lies in the file; none where n is 0.
type spilled struct {
	off    int64
	n, sum uint32
}

// Reserve makes room for a change before it is logged, and moves its before-image to the file
// when memory is short. Add itself never fails. What is reserved but not added is given back
// with Unreserve.
func (s *Store) Reserve(tx *Tx, c *Change) error {
	n := c.size()
	if s.bytes.Load()+n > s.limits.Memory/2 {
		if err := s.squeeze(c); err != nil {
			return err
		}
	}
	if tx.kept+n > s.limits.Tx {
		s.Unreserve(c)
		return fmt.Errorf("%w: this transaction keeps %d bytes, Options.TxVersionBytes is %d: commit in smaller parts",
			ErrFull, tx.kept, s.limits.Tx)
	}
	return nil
}

// squeeze moves a before-image to the file. Where that fails it may stay in memory as long as
// there is some.
func (s *Store) squeeze(c *Change) error {
	var err error
	if len(c.Before) >= minSpill && s.limits.Open != nil {
		err = s.spill(c)
	}
	mem := s.bytes.Load()
	if mem+c.size() <= s.limits.Memory {
		return nil
	}
	s.Unreserve(c)
	if err != nil {
		return err
	}
	s.refused.Add(1)
	return fmt.Errorf("%w: %d bytes are kept in memory, Options.VersionBytes is %d; %d transactions run, "+
		"the oldest since %d commits ago: end it, or raise the option",
		ErrFull, mem, s.limits.Memory, s.Active(), s.Last()-s.Oldest())
}

// spill writes a before-image to the file.
func (s *Store) spill(c *Change) error {
	s.fileMu.Lock()
	defer s.fileMu.Unlock()
	n := int64(len(c.Before))
	if s.fileEnd+n > s.limits.File {
		return fmt.Errorf("%w: its temporary file has %d bytes, Options.VersionFileBytes is %d: end long transactions, or raise the option",
			ErrFull, s.fileEnd, s.limits.File)
	}
	if s.file == nil {
		f, err := s.limits.Open()
		if err != nil {
			return fmt.Errorf("%w: %w: make space, or raise Options.VersionBytes", ErrSpill, err)
		}
		s.file = f
	}
	if _, err := s.file.WriteAt(c.Before, s.fileEnd); err != nil {
		return fmt.Errorf("%w: %w: make space, or raise Options.VersionBytes", ErrSpill, err)
	}
	c.spilled = spilled{s.fileEnd, uint32(n), crc32.ChecksumIEEE(c.Before)}
	c.Before = nil
	s.fileEnd += n
	s.fileUsed += n
	return nil
}

// Unreserve gives back the place of a before-image in the file.
func (s *Store) Unreserve(c *Change) {
	if c.spilled.n == 0 {
		return
	}
	s.fileMu.Lock()
	defer s.fileMu.Unlock()
	s.fileUsed -= int64(c.spilled.n)
	c.spilled = spilled{}
	if s.fileUsed == 0 { // nothing is left: begin again at the front
		s.fileEnd = 0
		if s.file != nil {
			_ = s.file.Truncate(0) // it is written over all the same
		}
	}
}

// Before is the data of the node before a change.
func (s *Store) Before(c *Change) ([]byte, error) {
	if c.spilled.n == 0 {
		return c.Before, nil
	}
	s.fileMu.Lock()
	f := s.file
	s.fileMu.Unlock()
	if f == nil {
		return nil, fmt.Errorf("%w: closed", ErrSpill)
	}
	b := make([]byte, c.spilled.n)
	if _, err := f.ReadAt(b, c.spilled.off); err != nil {
		return nil, fmt.Errorf("%w: read an earlier state of a row: %w", ErrSpill, err)
	}
	if crc32.ChecksumIEEE(b) != c.spilled.sum {
		return nil, fmt.Errorf("%w: an earlier state of a row reads otherwise than written", ErrSpill)
	}
	return b, nil
}

// Spilled is what the file holds, in bytes.
func (s *Store) Spilled() int64 {
	s.fileMu.Lock()
	defer s.fileMu.Unlock()
	return s.fileUsed
}

// Close closes the file; its owner removes it.
func (s *Store) Close() error {
	s.fileMu.Lock()
	defer s.fileMu.Unlock()
	if s.file == nil {
		return nil
	}
	err := s.file.Close()
	s.file = nil
	s.limits.Open = nil
	return err
}
