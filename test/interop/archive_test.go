//go:build linux

package interop_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"pillarbox/test/moto"
	"pillarbox/test/program"
)

// archived waits until the server says that its archive has everything.
func (s *site) archived(t *testing.T) {
	t.Helper()
	said := ""
	for limit := time.Now().Add(2 * time.Minute); time.Now().Before(limit); time.Sleep(50 * time.Millisecond) {
		said = s.verb(t, "status")
		_, line, _ := strings.Cut(said, "Archived:")
		line, _, _ = strings.Cut(line, "\n")
		if strings.Contains(line, "up to") && !strings.Contains(line, "are not") && !strings.Contains(line, "fails") {
			return
		}
	}
	t.Fatalf("not archived:\n%s", said)
}

// The machine with all its disks is lost. From a full backup, kept elsewhere, and the archive in a
// store of another maker every mail is back up to the last archived moment, on a new machine that is
// told nothing but where the backup is.
func TestMachineLostButForBackupAndStore(t *testing.T) {
	store := moto.Start(t)
	s, l := newSite(t, 19700), newLedger()
	sets := filepath.Join(t.TempDir(), "sets")
	s.stop()
	save(t, s.dir, "keys", fmt.Sprintf("aws_access_key_id = %s\naws_secret_access_key = %s\n",
		store.Access, store.Secret))
	s.configure(`name = "store"`, "name = \"store\"\ngeneration_bytes = 131072\narchive_every = \"1s\"\n"+
		"archive = \"s3://"+moto.Bucket+"\"", "[[group]]", fmt.Sprintf(
		"[s3]\nendpoint = %q\nregion = %q\ncredentials = \"keys\"\n\n[[group]]", store.URL, moto.Region))
	s.mustStart()
	l.send(s, 120)
	s.verb(t, "backup", "full", "--to", sets)
	l.send(s, 240)
	by := time.Now()
	s.archived(t)
	l.send(s, 80) // of these the archive has what it has
	killed := time.Now()
	s.kill()
	check(t, os.RemoveAll(s.dir))

	into := filepath.Join(t.TempDir(), "new")
	restore := func(env ...string) (string, error) {
		cmd := exec.Command(s.bin, "restore", "--from", sets, "--into", into)
		cmd.Env = append(os.Environ(), env...)
		return program.Run(t, 2*time.Minute, cmd)
	}
	out, err := restore("AWS_ACCESS_KEY_ID="+store.Access, "AWS_SECRET_ACCESS_KEY=wrong")
	if err == nil || !strings.Contains(out, "the secret key does not belong") || !strings.Contains(out, "--ignore-archive") {
		t.Errorf("with a wrong key: %v\n%s", err, out)
	}
	check(t, os.RemoveAll(into))
	if out, err = restore(); err != nil {
		t.Fatalf("restore: %v\n%s", err, out)
	}
	t.Log(out)
	d := &story{site: s.at(t, into), l: l}
	d.mustStart()
	l.judge(t, d.bodies("alice", "INBOX"), by, killed)
	d.exactly(t, d, out)
	d.stop()
}
