package backup

import "time"

// Row is a set with databases and those whose log leads on from it without a gap.
type Row struct {
	Base *Set
	Logs []*Set
	// High is the last generation of log, Reaches the time of the last commit in it.
	High    uint32
	Reaches time.Time
	// Archive tells that log outside of sets is part of it.
	Archive bool
}

// LogRun is log of a stream outside of sets, without a gap.
type LogRun struct {
	Low, High uint32
	// Begun tells that it is the beginning of one generation only, which nothing leads on from.
	Begun bool
	// Reaches is the time of the last commit in it; zero when it has none.
	Reaches time.Time
}

// Row finds what leads on from a set with databases.
func (s *Shelf) Row(base *Set) *Row { return s.rowWith(base, nil) }

// rowWith takes log outside of sets too, where no set leads on.
func (s *Shelf) rowWith(base *Set, runs []LogRun) *Row {
	r := &Row{Base: base, High: base.Engine.High, Reaches: base.Reaches()}
	for s.leadOn(r, runs) {
		continue
	}
	for _, x := range runs {
		if x.Begun && x.Low == r.High+1 && x.Reaches.After(r.Reaches) {
			r.Archive, r.Reaches = true, x.Reaches
		}
	}
	return r
}

// leadOn adds the set that leads on furthest from the end of the row, or other log where none does;
// false when nothing does.
func (s *Shelf) leadOn(r *Row, runs []LogRun) bool {
	var best *Set
	for _, x := range s.Sets {
		if sameStream(x, r.Base) && x.Engine.Low <= r.High+1 && x.Engine.High > r.High &&
			(best == nil || x.Engine.High > best.Engine.High) {
			best = x
		}
	}
	if best != nil {
		r.Logs = append(r.Logs, best)
		r.High = best.Engine.High
		r.reach(best.Reaches())
		return true
	}
	for _, x := range runs {
		if !x.Begun && x.Low <= r.High+1 && x.High > r.High {
			r.Archive, r.High = true, x.High
			r.reach(x.Reaches)
			return true
		}
	}
	return false
}

// reach notes the time of a commit: they are in order.
func (r *Row) reach(at time.Time) {
	if at.After(r.Reaches) {
		r.Reaches = at
	}
}

// Span is moments that can be reached: each commit from the first to the last.
type Span struct {
	Group       string
	First, Last time.Time
	// Sets is how many of them lie in it.
	Sets int
	// Archive tells that log outside of sets is needed for it.
	Archive bool
}

// Spans are what the sets of a group reach by themselves, oldest first. Rows of one stream that
// overlap are one span.
func (s *Shelf) Spans(group string) []Span { return s.SpansWith(group, nil) }

// SpansWith are what they reach with log outside of sets, by the signature of its stream.
func (s *Shelf) SpansWith(group string, log map[string][]LogRun) (spans []Span) {
	stream := ""
	for _, b := range s.Bases(group) {
		r := s.rowWith(b, log[b.Engine.LogSignature])
		n := len(spans)
		if n > 0 && stream == b.Engine.LogSignature && !b.Reaches().After(spans[n-1].Last) {
			if r.Reaches.After(spans[n-1].Last) {
				spans[n-1].Last = r.Reaches
			}
			spans[n-1].Archive = spans[n-1].Archive || r.Archive
			spans[n-1].Sets++
			continue
		}
		stream = b.Engine.LogSignature
		spans = append(spans, Span{group, b.Reaches(), r.Reaches, 1 + len(r.Logs), r.Archive})
	}
	return spans
}
