package server

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// StoreConfig says how long the store keeps what was deleted.
type StoreConfig struct {
	// KeepDeleted is for messages (default 14d), KeepMailboxes for mailboxes of removed accounts
	// (default 30d), KeepTombstones for the memory of what is gone (default 180d).
	KeepDeleted    Keep `toml:"keep_deleted"`
	KeepMailboxes  Keep `toml:"keep_deleted_mailboxes"`
	KeepTombstones Keep `toml:"keep_tombstones"`
	// RecoverableBytes bounds the deleted messages of one mailbox. Default: 30 GiB.
	RecoverableBytes int64 `toml:"recoverable_bytes"`
	// PurgeEvery is the time between two passes of the purge (default 1h), PurgeRate how many
	// rows it removes in a second at most (default 1000).
	PurgeEvery Duration `toml:"purge_every"`
	PurgeRate  int64    `toml:"purge_rate"`
}

// Keep is a time such as "14d" in a config file; "0" is none at all.
type Keep struct {
	time time.Duration
	set  bool
}

// UnmarshalText reads "14d", "36h", "2w", "0".
func (k *Keep) UnmarshalText(b []byte) error {
	t, err := ParseKeepTime(string(b))
	*k = Keep{t, true}
	return err
}

// ParseKeepTime reads a time to keep something: "14d", "2w", "36h", "90s", "0".
func ParseKeepTime(s string) (time.Duration, error) {
	bad := fmt.Errorf("%q is not a time such as 14d, 2w or 36h", s)
	unit := time.Duration(0)
	switch {
	case s == "0":
		return 0, nil
	case strings.HasSuffix(s, "d"):
		unit = 24 * time.Hour
	case strings.HasSuffix(s, "w"):
		unit = 7 * 24 * time.Hour
	}
	if unit == 0 {
		t, err := time.ParseDuration(s)
		if err != nil || t < 0 {
			return 0, bad
		}
		return t, nil
	}
	n, err := strconv.Atoi(s[:len(s)-1])
	if err != nil || n < 0 || n > 36_500 {
		return 0, bad
	}
	return time.Duration(n) * unit, nil
}

func (k *Keep) setDefault(t time.Duration) {
	if !k.set {
		*k = Keep{t, true}
	}
}

func (s *StoreConfig) setDefaults() {
	const day = 24 * time.Hour
	s.KeepDeleted.setDefault(14 * day)
	s.KeepMailboxes.setDefault(30 * day)
	s.KeepTombstones.setDefault(180 * day)
	if s.RecoverableBytes == 0 {
		s.RecoverableBytes = 30 << 30
	}
	if s.PurgeEvery == 0 {
		s.PurgeEvery = Duration(time.Hour)
	}
	if s.PurgeRate == 0 {
		s.PurgeRate = 1000
	}
}

func (s *StoreConfig) check() error {
	if s.RecoverableBytes < 0 || s.PurgeRate < 0 {
		return fmt.Errorf("store.recoverable_bytes and store.purge_rate cannot be negative")
	}
	return nil
}
