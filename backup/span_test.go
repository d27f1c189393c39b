package backup

import (
	"testing"
	"time"

	"pillarbox/ese"
)

// at is a moment of the tests.
func at(hour int) time.Time { return time.Unix(1_800_000_000, 0).Add(time.Duration(hour) * time.Hour) }

// rowOf is a shelf with a full set of generations 1 to 4, up to hour 1, and sets of log.
func rowOf(logs ...ese.BackupInfo) *Shelf {
	full := ese.BackupInfo{
		Kind: ese.BackupFull, Low: 1, High: 4, LastCommit: at(1),
		Databases: []ese.BackupDatabase{{Name: "a.edb"}},
	}
	s := &Shelf{}
	for _, info := range append([]ese.BackupInfo{full}, logs...) {
		info.LogSignature = "x"
		s.Sets = append(s.Sets, &Set{Manifest: Manifest{Group: "store", Engine: info}})
	}
	return s
}

// The archive is named only for moments that no set leads to.
func TestSpanWithArchive(t *testing.T) {
	one := ese.BackupInfo{Kind: ese.BackupIncremental, Low: 5, High: 8, LastCommit: at(2)}
	two := ese.BackupInfo{Kind: ese.BackupIncremental, Low: 9, High: 12, LastCommit: at(3)}
	tests := []struct {
		name    string
		shelf   *Shelf
		runs    []LogRun
		last    int
		sets    int
		archive bool
	}{
		{"sets alone", rowOf(one, two), nil, 3, 3, false},
		{"all of it in both", rowOf(one, two), []LogRun{{Low: 1, High: 12, Reaches: at(3)}}, 3, 3, false},
		{"a set between", rowOf(one, two), []LogRun{{Low: 3, High: 10, Reaches: at(2)}}, 3, 3, false},
		{"a gap in the sets", rowOf(two), []LogRun{{Low: 3, High: 8, Reaches: at(2)}}, 3, 2, true},
		{"further", rowOf(one), []LogRun{{Low: 5, High: 12, Reaches: at(3)}}, 3, 2, true},
		{"a gap in the archive", rowOf(one), []LogRun{{Low: 10, High: 12, Reaches: at(3)}}, 2, 2, false},
		{"idle since", rowOf(one), []LogRun{{Low: 9, Begun: true}}, 2, 2, false},
		{
			"the current one", rowOf(one), []LogRun{{Low: 9, Begun: true, Reaches: at(4)}}, 4, 2, true,
		},
		{
			"a later current one", rowOf(one), []LogRun{{Low: 10, Begun: true, Reaches: at(4)}}, 2, 2, false,
		},
	}
	for _, x := range tests {
		spans := x.shelf.SpansWith("store", map[string][]LogRun{"x": x.runs})
		if len(spans) != 1 {
			t.Errorf("%s: %v", x.name, spans)
			continue
		}
		want := Span{"store", at(1), at(x.last), x.sets, x.archive}
		if spans[0] != want {
			t.Errorf("%s: %+v, not %+v", x.name, spans[0], want)
		}
	}
}
