package store

import (
	"fmt"
	"time"

	"pillarbox/ese"
)

// future is how far ahead of the clock a time may be: clocks are set back now and then. What was
// deleted later than that would never be purged.
const future = 24 * time.Hour

// origin checks what makes a message recoverable.
func (x *exam) origin(f *folderRow, p *placement, place string) {
	if f.fid != recoverableFolder {
		if p.origin != 0 {
			x.fault(RecoverTest, place, "it was not deleted and says so").
				cure("mark removed", setOn(f.fid, p.uid, x.d.msg.origin, ese.Null()))
		}
		return
	}
	x.checked[RecoverTest]++
	now := x.v.s.o.Now()
	if fromMillis(p.saved).Sub(now) > future {
		x.fault(RecoverTest, place, "it will be deleted at %s only", fromMillis(p.saved)).
			cure("time set to now", setOn(f.fid, p.uid, x.d.msg.saved, ese.Int(millis(now))))
	}
	if x.folders[p.origin] != nil && p.origin != recoverableFolder {
		return
	}
	path := ""
	if p.origin > 0 && p.origin != recoverableFolder {
		var err error
		if path, err = x.d.gonePath(x.tx, x.b.mbx, p.origin); err != nil {
			path = ""
		}
	}
	if path == "" {
		x.fault(RecoverTest, place, "the folder %d that it was deleted from is not known", p.origin).
			cure("set to INBOX", setOn(f.fid, p.uid, x.d.msg.origin, ese.Int(standardFolders()[0].fid)))
	}
}

// recoverables checks what the mailbox says about what was deleted.
func (x *exam) recoverables() error {
	if x.d.gone.t == nil {
		return nil
	}
	x.checked[RecoverTest]++
	t := &x.d.gone
	err := x.v.each(x.tx, t.t, func(v *ese.RowView) error {
		x.checked[RecoverTest]++
		fid := FolderID(v.Int(t.fid))
		path, err := v.Blob(t.path, nil)
		if err != nil {
			return err
		}
		place, reason := fmt.Sprintf("folder %d", fid), ""
		if x.folders[fid] != nil {
			reason = "it is there, and is noted as gone"
		} else if _, err := splitPath(string(path)); err != nil {
			reason = fmt.Sprintf("it is noted as gone from %q, which is no path", path)
		}
		if reason != "" {
			x.fault(RecoverTest, place, "%s", reason).
				cure("note removed", func(o *op, st *boxState) error {
					return o.tx.Delete(t.t, ese.Int(st.mbx), ese.Int(fid))
				})
		}
		return nil
	}, ese.Int(x.b.mbx))
	if err != nil {
		return err
	}
	now := x.v.s.o.Now()
	if fromMillis(x.row.disconnected).Sub(now) > future {
		x.fault(RecoverTest, "mailbox", "it will lose its owner at %s only", fromMillis(x.row.disconnected)).
			cure("time set to now", func(o *op, st *boxState) error {
				return o.setKeeping(st, func(t *mailboxTable, row *ese.Row) {
					row.Set(t.disconnected, ese.Int(millis(now)))
				})
			})
	}
	if x.row.own && x.row.keep < 0 {
		x.fault(RecoverTest, "mailbox", "it keeps deleted messages for %s", x.row.keep).
			cure("the store's time holds", func(o *op, st *boxState) error {
				return o.setKeeping(st, func(t *mailboxTable, row *ese.Row) {
					row.Set(t.keepDeleted, ese.Null())
				})
			})
	}
	return x.floors()
}

// floors checks up to where tombstones are forgotten.
func (x *exam) floors() error {
	highest := CN(0)
	for _, f := range x.folders {
		if f.fid != recoverableFolder {
			highest = max(highest, f.tombsFloor)
		}
	}
	if highest > x.row.tombsFloor {
		x.fault(TombstonesTest, "mailbox", "tombs_floor is %d, that of a folder %d", x.row.tombsFloor, highest).
			cure("tombs_floor raised", func(o *op, st *boxState) error {
				return o.setKeeping(st, func(t *mailboxTable, row *ese.Row) {
					row.Set(t.tombsFloor, ese.Int(highest))
				})
			})
	}
	return nil
}
