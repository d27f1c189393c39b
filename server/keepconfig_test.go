package server

import (
	"testing"
	"time"
)

func TestKeepTimes(t *testing.T) {
	const day = 24 * time.Hour
	for text, want := range map[string]time.Duration{
		"0": 0, "14d": 14 * day, "2w": 14 * day, "36h": 36 * time.Hour, "90s": 90 * time.Second, "0d": 0,
	} {
		if got, err := ParseKeepTime(text); err != nil || got != want {
			t.Errorf("%q: %v, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "d", "-1d", "soon", "14", "-3h", "99999999d", "1.5d"} {
		if got, err := ParseKeepTime(text); err == nil {
			t.Errorf("%q is %v", text, got)
		}
	}
	c, err := LoadConfig(writeTemp(t, "[store]\nkeep_deleted = \"0\"\nkeep_tombstones = \"1w\"\n"))
	if err != nil {
		t.Fatal(err)
	}
	s := c.Store
	if s.KeepDeleted.time != 0 || s.KeepMailboxes.time != 30*day || s.KeepTombstones.time != 7*day ||
		s.RecoverableBytes != 30<<30 || s.PurgeRate != 1000 || time.Duration(s.PurgeEvery) != time.Hour {
		t.Errorf("%+v", s)
	}
}
