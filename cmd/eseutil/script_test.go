package main

import (
	"context"
	"errors"
	options "flag"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"pillarbox/backup"
	"pillarbox/ese"
	"pillarbox/test/program"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"eseutil": main, "makegroup": makeGroup})
}

// TestScripts runs each mode as an operator would.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "../../test/eseutil", RequireUniqueNames: true,
		Deadline: time.Now().Add(program.Lifetime(t)),
	})
}

// makeGroup makes a storage group of some rows and streams for the scripts:
//
//	makegroup [-kill] [-backup SETS] [-rows N] DIR
//
// With -kill it is left as a crash leaves it; with -backup a full backup of it is made first.
func makeGroup() {
	kill := options.Bool("kill", false, "leave it dirty")
	sets := options.String("backup", "", "folder for a full backup")
	rows := options.Int("rows", 200, "rows to add")
	options.Parse()
	if err := group(options.Arg(0), *rows, *sets, *kill); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func group(dir string, rows int, sets string, kill bool) error {
	in, err := ese.Open(ese.Options{
		Dir: dir, GenerationBytes: 64 << 10, ScrubEvery: -1, Computer: "script",
	})
	if err != nil {
		return err
	}
	err = fill(in, rows)
	if err == nil && sets != "" {
		err = backUp(in, sets)
		if err == nil {
			err = fill(in, rows)
		}
	}
	if kill {
		return errors.Join(err, in.Kill())
	}
	return errors.Join(err, in.Close())
}

// fill adds rows, each with a stream.
func fill(in *ese.Instance, rows int) error {
	db, err := in.OpenDatabase("priv1.edb")
	if err != nil {
		return err
	}
	ctx := context.Background()
	if _, err := db.Table("Mail"); errors.Is(err, ese.ErrNotFound) {
		err := in.Update(ctx, func(tx *ese.Tx) error {
			_, err := tx.CreateTable(db, ese.TableDef{
				Name: "Mail", Columns: []ese.ColumnDef{
					{Name: "ID", Type: ese.Long, AutoIncrement: true, NotNull: true},
					{Name: "Name", Type: ese.Text},
				},
				Indexes: []ese.IndexDef{
					{Name: "ID", Primary: true, Columns: []ese.IndexColumn{{Name: "ID"}}},
					{Name: "Name", Columns: []ese.IndexColumn{{Name: "Name"}}},
				},
			})
			return err
		})
		if err != nil {
			return err
		}
	}
	t, err := db.Table("Mail")
	if err != nil {
		return err
	}
	name, err := t.Column("Name")
	if err != nil {
		return err
	}
	for i := range rows {
		err := in.Update(ctx, func(tx *ese.Tx) error {
			text := fmt.Sprintf("message %d", i)
			_, err := tx.WriteStream(db, []byte(text))
			return errors.Join(err, tx.Insert(t.NewRow().Set(name, ese.String(text))))
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func backUp(in *ese.Instance, sets string) error {
	id := backup.NewID(time.Unix(1_700_000_000, 0), "store", ese.BackupFull)
	w, err := backup.NewWriter(sets, id, "store", backup.Codec{})
	if err != nil {
		return err
	}
	info, err := in.Backup(context.Background(), ese.BackupOptions{Kind: ese.BackupFull, Sink: w, Hold: true})
	if err == nil {
		err = w.Commit(&backup.Manifest{
			Format: 1, ID: id, Group: "store", Computer: "script", Engine: *info,
		})
	}
	if err != nil {
		return errors.Join(err, w.Abort())
	}
	return nil
}
