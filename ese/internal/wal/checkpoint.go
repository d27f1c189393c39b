package wal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"pillarbox/ese/internal/logrec"
	"pillarbox/ese/vfs"
)

// The checkpoint file (docs/format-log.md, "Checkpoint file").
const (
	checkpointSize   = 4096
	attachOffset     = 679
	attachBytes      = 2048
	attachHeaderSize = 64
)

// Attachment is a database that was attached when the checkpoint was taken.
type Attachment struct {
	DBID       uint8 // from 1
	DBTime     uint64
	LastObject uint32
	Pages      uint32
	Attach     logrec.LogPos
	Consistent logrec.LogPos
	Sign       logrec.Signature
	Path       string
}

// Checkpoint is where recovery begins.
type Checkpoint struct {
	Pos         logrec.LogPos
	Sign        logrec.Signature
	Time        logrec.LogTime
	Attachments []Attachment
}

// WriteCheckpoint replaces the checkpoint file's contents. One of its two copies is whole at any
// moment: the one that a reader takes is written after the other one is durable. An earlier try
// may have been cut in either, but what the file holds now is durable.
func WriteCheckpoint(fsys vfs.FS, path string, c *Checkpoint) (err error) {
	b, err := c.encode()
	if err != nil {
		return err
	}
	_, err = fsys.Stat(path)
	created := errors.Is(err, fs.ErrNotExist)
	f, err := fsys.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return fmt.Errorf("write checkpoint: %w", err)
	}
	defer func() {
		if cerr := f.Close(); err == nil && cerr != nil {
			err = fmt.Errorf("write checkpoint: %w", cerr)
		}
	}()
	// Its space is there as a whole, or nothing is written: no copy may lack it later.
	if size, err := f.Size(); err != nil {
		return fmt.Errorf("write checkpoint: %w", err)
	} else if size < 2*checkpointSize {
		if err := f.Allocate(2 * checkpointSize); err != nil {
			return fmt.Errorf("write checkpoint: %w", err)
		}
	}
	order := [2]int64{checkpointSize, 0}
	var first [checkpointSize]byte
	if _, err := f.ReadAt(first[:], 0); err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("write checkpoint: %w", err)
	}
	if _, ok := decodeCheckpoint(first[:]); !ok {
		order = [2]int64{0, checkpointSize}
	}
	for _, at := range order {
		if _, err := f.WriteAt(b, at); err != nil {
			return fmt.Errorf("write checkpoint: %w", err)
		}
		if err := f.SyncData(); err != nil {
			return fmt.Errorf("sync checkpoint: %w", err)
		}
	}
	if created {
		if err := fsys.SyncDir(filepath.Dir(path)); err != nil {
			return fmt.Errorf("sync checkpoint's folder: %w", err)
		}
	}
	return nil
}

// ReadCheckpoint reads the first copy, or the second when that is damaged. With neither the
// error wraps logrec.ErrCheckpointCorrupt; for a missing file it is fs.ErrNotExist.
func ReadCheckpoint(fsys vfs.FS, path string) (*Checkpoint, error) {
	f, err := fsys.OpenFile(path, os.O_RDONLY, 0)
	if err != nil {
		return nil, fmt.Errorf("read checkpoint: %w", err)
	}
	defer func() { _ = f.Close() }()
	b := make([]byte, 2*checkpointSize)
	n, err := f.ReadAt(b, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("read checkpoint: %w", err)
	}
	b = b[:n]
	for len(b) >= checkpointSize {
		if c, ok := decodeCheckpoint(b[:checkpointSize]); ok {
			return c, nil
		}
		b = b[checkpointSize:]
	}
	return nil, &logrec.CorruptError{
		File: path, Reason: "neither copy is valid", Err: logrec.ErrCheckpointCorrupt,
	}
}

// CheckpointWhole tells whether the file is there with both copies.
func CheckpointWhole(fsys vfs.FS, path string) bool {
	f, err := fsys.OpenFile(path, os.O_RDONLY, 0)
	if err != nil {
		return false
	}
	defer func() { _ = f.Close() }()
	var b [2 * checkpointSize]byte
	if n, _ := f.ReadAt(b[:], 0); n < len(b) {
		return false
	}
	_, first := decodeCheckpoint(b[:checkpointSize])
	_, second := decodeCheckpoint(b[checkpointSize:])
	return first && second
}

// Bytes is the content of a checkpoint file.
func (c *Checkpoint) Bytes() ([]byte, error) {
	b, err := c.encode()
	return append(b, b...), err
}

func (c *Checkpoint) encode() ([]byte, error) {
	b := make([]byte, checkpointSize)
	le := binary.LittleEndian
	le.PutUint64(b[12:], uint64(c.Pos))
	c.Sign.Encode(b[20:])
	b[647] = 1
	le.PutUint32(b[fileTypeOffset:], fileTypeCheckp)
	copy(b[2728:], c.Time[:])
	le.PutUint32(b[2736:], versionCheckp)
	list := b[attachOffset : attachOffset+attachBytes]
	for i := range c.Attachments {
		a := &c.Attachments[i]
		if a.DBID == 0 {
			return nil, fmt.Errorf("write checkpoint: %s has no database id", a.Path)
		}
		if attachHeaderSize+len(a.Path)+1 > len(list) {
			return nil, errors.New("write checkpoint: the list of databases is too long")
		}
		list[0] = a.DBID
		le.PutUint16(list[2:], uint16(len(a.Path)))
		le.PutUint64(list[4:], a.DBTime)
		le.PutUint32(list[12:], a.LastObject)
		le.PutUint32(list[16:], a.Pages)
		le.PutUint64(list[20:], uint64(a.Attach))
		le.PutUint64(list[28:], uint64(a.Consistent))
		a.Sign.Encode(list[36:])
		copy(list[attachHeaderSize:], a.Path)
		list = list[attachHeaderSize+len(a.Path):]
	}
	le.PutUint32(b, xor32(b))
	return b, nil
}

func decodeCheckpoint(b []byte) (*Checkpoint, bool) {
	le := binary.LittleEndian
	if le.Uint32(b) != xor32(b) || le.Uint32(b[fileTypeOffset:]) != fileTypeCheckp ||
		le.Uint32(b[2736:]) != versionCheckp {
		return nil, false
	}
	c := &Checkpoint{
		Pos:  logrec.LogPos(le.Uint64(b[12:])),
		Sign: logrec.DecodeSignature(b[20:]),
	}
	copy(c.Time[:], b[2728:])
	list := b[attachOffset : attachOffset+attachBytes]
	for len(list) > 0 && list[0] != 0 {
		if len(list) < attachHeaderSize {
			return nil, false
		}
		n := int(le.Uint16(list[2:]))
		if attachHeaderSize+n > len(list) || list[1] != 0 {
			return nil, false
		}
		c.Attachments = append(c.Attachments, Attachment{
			DBID:       list[0],
			DBTime:     le.Uint64(list[4:]),
			LastObject: le.Uint32(list[12:]),
			Pages:      le.Uint32(list[16:]),
			Attach:     logrec.LogPos(le.Uint64(list[20:])),
			Consistent: logrec.LogPos(le.Uint64(list[28:])),
			Sign:       logrec.DecodeSignature(list[36:]),
			Path:       string(list[attachHeaderSize : attachHeaderSize+n]),
		})
		list = list[attachHeaderSize+n:]
	}
	return c, true
}
