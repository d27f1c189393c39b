package ese_test

import (
	"context"
	"io"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"pillarbox/ese"
	"pillarbox/ese/esetest"
)

// TestSettleLostWhileBusy brings a lost database back while several goroutines write to the other one
// and everything runs in the background; a backup that runs is waited for.
func TestSettleLostWhileBusy(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 92))
	w := newTwice(t, 3)
	w.write(50)
	_, w.info = w.backup(ese.BackupFull)
	w.write(50)
	w.leaveOpen()
	mem := w.crash()
	for _, name := range lostFiles[:3] {
		must(t, mem.Remove(name))
	}
	must(t, mem.SyncDir("/data"))
	o := twoOptions(mem, rng)
	o.Manual, o.IgnoreMissing, o.Rand = false, true, nil
	in, err := ese.Open(o)
	must(t, err)
	w.in, w.disk = in, &esetest.CrashDisk{Mem: mem}

	_, ta, ca, err := numbers(in, "a.edb")
	must(t, err)
	ctx, stop := context.WithCancel(t.Context())
	var busy sync.WaitGroup
	var mu sync.Mutex
	for g := range int64(4) {
		busy.Add(1)
		go func() {
			defer busy.Done()
			for n := aOnlyFrom * (g + 2); ctx.Err() == nil; n++ {
				if err := insertNumber(in, ta, ca, n); err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				w.acked[n] = true
				mu.Unlock()
			}
		}()
	}
	file := w.restore(w.liveLog())
	begun := make(chan struct{})
	slow := &slowSink{folderSink{mem, "/slow"}, begun}
	busy.Add(1)
	go func() {
		defer busy.Done()
		if _, err := in.Backup(t.Context(), ese.BackupOptions{Kind: ese.BackupCopy, Sink: slow}); err != nil {
			t.Error(err)
		}
	}()
	<-begun
	must(t, in.SettleLost(t.Context(), "b.edb", file))
	w.swap(file)
	_, err = in.OpenDatabase("b.edb")
	must(t, err)
	for n := w.next; n < w.next+20; n++ {
		_, tb, cb, err := numbers(in, "b.edb")
		must(t, err)
		must(t, in.Update(t.Context(), func(tx *ese.Tx) error {
			if err := tx.Insert(ta.NewRow().Set(ca, ese.Int(n))); err != nil {
				return err
			}
			return tx.Insert(tb.NewRow().Set(cb, ese.Int(n)))
		}))
		mu.Lock()
		w.acked[n] = true
		mu.Unlock()
	}
	stop()
	busy.Wait()
	w.check()
	must(t, in.Close())
	esetest.Check(t, mem, "/data/a.edb")
	esetest.Check(t, mem, "/data/b.edb")
}

// slowSink takes its time with the first file.
type slowSink struct {
	folderSink
	begun chan struct{}
}

func (s *slowSink) Create(name string, size int64) (f io.WriteCloser, err error) {
	if s.begun != nil {
		close(s.begun)
		s.begun = nil
		time.Sleep(50 * time.Millisecond)
	}
	return s.folderSink.Create(name, size)
}
