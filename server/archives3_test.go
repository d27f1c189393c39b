package server

import (
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"pillarbox/archive"
	"pillarbox/archive/s3/s3test"
)

// withStore is backedUp with an archive in a store, as the config says, and with a full backup that
// holds this config.
func withStore(t *testing.T, extra string) (cfg *Config, sets string, srv *s3test.Server) {
	t.Helper()
	noEnvironment(t)
	cfg, sets = backedUp(t)
	srv = s3test.Start(t, false)
	keys := "[default]\naws_access_key_id = " + s3test.Access + "\naws_secret_access_key = " + s3test.Secret + "\n"
	if err := os.WriteFile(filepath.Join(cfg.Dir, "keys"), []byte(keys), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(cfg.path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, err = fmt.Fprintf(f, "generation_bytes = 65536\ncheckpoint_depth_bytes = 65536\narchive = \"s3://%s/mail\"\n%s\n[s3]\nendpoint = %q\n"+
		"region = %q\ncredentials = \"keys\"\ntries = 1\n", s3test.Bucket, extra, srv.URL(), s3test.Region)
	if err != nil || f.Close() != nil {
		t.Fatal(err)
	}
	if cfg, err = LoadConfig(cfg.path); err != nil {
		t.Fatal(err)
	}
	c := visit(t, cfg)
	if _, err := Backup(t.Context(), c, BackupOptions{Kind: "full", To: sets}); err != nil {
		t.Fatal(err)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	return cfg, sets, srv
}

// noEnvironment hides keys of the machine that runs the tests.
func noEnvironment(t *testing.T) {
	for _, name := range []string{
		"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_REGION",
		"AWS_DEFAULT_REGION", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3",
	} {
		t.Setenv(name, "")
	}
}

// closedHere are the closed generations in the log folder of the first group.
func closedHere(t *testing.T, cfg *Config) []uint32 {
	t.Helper()
	names, err := archive.Folder(cfg.Groups[0].LogDir).List(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	return archive.Generations(names)
}

// The machine is lost. In place, and elsewhere from nothing but the set, all comes back that had
// been archived in the store; a drill proves that too; and prune leaves what the set needs.
func TestStoreCoversTheLossOfTheMachine(t *testing.T) {
	cfg, sets, srv := withStore(t, "")
	g := &cfg.Groups[0]
	c := visit(t, cfg)
	var a *archiver
	for i := range 200 {
		addUser(t, c, fmt.Sprintf("user%d@pillarbox.test", i))
		if i%50 == 7 {
			a = c.archive(t.Context(), g, a)
		}
	}
	a = c.archive(t.Context(), g, a)
	s, err := c.status()
	if err != nil || len(s.Archives) != 1 || a == nil {
		t.Fatal(err, s)
	}
	if x := s.Archives[0]; x.Reason != "" || x.Files != 0 || x.Behind != 0 || x.At.IsZero() {
		t.Errorf("archived to the end, but: %+v", x)
	}
	addUser(t, c, "late@pillarbox.test")
	if s, err = c.status(); err != nil || s.Archives[0].Behind <= 0 {
		t.Errorf("more has come: %+v, %v", s.Archives, err)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	if n := len(srv.Keys()); n < 4 {
		t.Fatalf("only %d objects: the test proves little", n)
	}
	if all, refused := srv.Requests(); refused != 0 || all == 0 {
		t.Errorf("%d of %d requests were refused", refused, all)
	}
	if err := cfg.pruneArchives(t.Context(), sets); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(g.Dir); err != nil {
		t.Fatal(err)
	}
	if err := Restore(t.Context(), cfg, RestoreOptions{From: sets, Say: say(t)}); err != nil {
		t.Fatal(err)
	}
	if n := users(t, cfg); n != 202 {
		t.Errorf("%d accounts, archived were 202", n)
	}
	into := filepath.Join(t.TempDir(), "new")
	config, err := RestoreInto(t.Context(), into, RestoreOptions{From: sets, Say: say(t)})
	if err != nil {
		t.Fatal(err)
	}
	other, err := LoadConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	if n := users(t, other); n != 202 {
		t.Errorf("elsewhere %d accounts, archived were 202", n)
	}
	if other.Groups[0].Archive != "" || other.S3.Credentials != filepath.Join(into, "s3", "keys") {
		t.Errorf("the other machine's config: %+v, %+v", other.Groups[0].Archive, other.S3)
	}
	res, err := Drill(t.Context(), DrillOptions{From: sets, Scratch: t.TempDir()})
	if err != nil || res.Accounts != 202 {
		t.Errorf("drill: %+v, %v", res, err)
	}
}

// To an earlier moment only the log up to the next backup after it is fetched, and that is enough.
func TestStoreToAMoment(t *testing.T) {
	cfg, sets, srv := withStore(t, "")
	g := &cfg.Groups[0]
	c := visit(t, cfg)
	var a *archiver
	var moment time.Time
	for round := range 3 {
		for i := range 60 {
			addUser(t, c, fmt.Sprintf("user%d-%d@pillarbox.test", round, i))
		}
		if a = c.archive(t.Context(), g, a); a == nil {
			t.Fatal("not archived")
		}
		if round == 0 {
			moment = time.Now()
			time.Sleep(5 * time.Millisecond)
			continue
		}
		if _, err := Backup(t.Context(), c, BackupOptions{Kind: "full", To: sets}); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	into, said := filepath.Join(t.TempDir(), "new"), ""
	config, err := RestoreInto(t.Context(), into, RestoreOptions{
		From: sets, Time: moment, Say: func(format string, args ...any) {
			said += fmt.Sprintf(format, args...) + "\n"
		},
	})
	if err != nil {
		t.Fatal(err, said)
	}
	if other, err := LoadConfig(config); err != nil || users(t, other) != 62 {
		t.Errorf("not the accounts of the moment: %v\n%s", err, said)
	}
	var n int
	if _, err := fmt.Sscanf(said, "%d log files came", &n); err != nil {
		t.Fatal(err, said)
	}
	if all := len(srv.Keys()); n == 0 || n >= all {
		t.Errorf("%d of %d files were fetched", n, all)
	}
}

// A store that cannot be read stops a restore that needs it, with the way on.
func TestRestoreWithoutItsStore(t *testing.T) {
	cfg, sets, srv := withStore(t, "")
	c := visit(t, cfg)
	addUser(t, c, "three@pillarbox.test")
	a := c.archive(t.Context(), &cfg.Groups[0], nil)
	if a == nil {
		t.Fatal("not archived")
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	srv.Fail(func(_ int, w http.ResponseWriter, _ *http.Request) bool {
		s3test.Refuse(w, 403, "AccessDenied", "Access Denied")
		return true
	})
	into := filepath.Join(t.TempDir(), "new")
	o := RestoreOptions{From: sets, Say: say(t)}
	_, err := RestoreInto(t.Context(), into, o)
	if err == nil || !strings.Contains(err.Error(), "--ignore-archive") || !strings.Contains(err.Error(), "s3:GetObject") {
		t.Errorf("without its store: %v", err)
	}
	if err := os.RemoveAll(into); err != nil {
		t.Fatal(err)
	}
	o.IgnoreArchive = true
	if _, err := RestoreInto(t.Context(), into, o); err != nil {
		t.Error(err)
	}
}

// A store that spoils what it keeps is found out.
func TestSpoiltArchive(t *testing.T) {
	cfg, sets, srv := withStore(t, "")
	c := visit(t, cfg)
	for i := range 60 {
		addUser(t, c, fmt.Sprintf("user%d@pillarbox.test", i))
	}
	if c.archive(t.Context(), &cfg.Groups[0], nil) == nil {
		t.Fatal("not archived")
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	for _, key := range srv.Keys() {
		srv.Spoil(key)
	}
	_, err := RestoreInto(t.Context(), filepath.Join(t.TempDir(), "new"), RestoreOptions{From: sets, Say: say(t)})
	if err == nil || !strings.Contains(err.Error(), "not what was put") {
		t.Errorf("a spoilt archive: %v", err)
	}
}

// journal keeps what is logged.
type journal struct {
	mu   sync.Mutex
	text strings.Builder
}

func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.Write(p)
}

func (j *journal) logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(io.Writer(j), &slog.HandlerOptions{Level: slog.LevelInfo}))
}

func (j *journal) has(text string) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return strings.Contains(j.text.String(), text)
}

// While the store is away no log goes, whatever backups are made; it is said since when, why and how
// much; and afterwards the archive has no gap.
func TestLogWaitsForTheStore(t *testing.T) {
	cfg, sets, srv := withStore(t, "")
	g := &cfg.Groups[0]
	var j journal
	c, err := openCore(t.Context(), cfg, coreOptions{logger: j.logger(), still: true})
	if err != nil {
		t.Fatal(err)
	}
	a := c.archive(t.Context(), g, nil)
	if a == nil {
		t.Fatal("not archived")
	}
	next, stream := a.next, a.in.LogSignature()
	srv.Fail(func(_ int, w http.ResponseWriter, _ *http.Request) bool {
		s3test.Refuse(w, 503, "SlowDown", "busy")
		return true
	})
	for round := range 3 {
		for i := range 60 {
			addUser(t, c, fmt.Sprintf("user%d-%d@pillarbox.test", round, i))
		}
		if a = c.archive(t.Context(), g, a); a != nil {
			t.Error("archived in a store that is away")
		}
		kind := []string{"full", "incremental", "full"}[round]
		if _, err := Backup(t.Context(), c, BackupOptions{Kind: kind, To: sets}); err != nil {
			t.Fatal(err)
		}
	}
	if here := closedHere(t, cfg); len(here) < 3 || here[0] > next {
		t.Errorf("generations %v are here, not archived are those from %d on", here, next)
	}
	s, err := c.status()
	if err != nil {
		t.Fatal(err)
	}
	x := s.Archives[0]
	if x.Files < 3 || x.Behind <= 0 || x.Since.IsZero() || !strings.Contains(x.Reason, "SlowDown") || x.GapBelow != 0 {
		t.Errorf("state: %+v", x)
	}
	if late := x.warnings(x.Since.Add(lateAfter)); len(late) != 1 || !strings.Contains(late[0], "not archived since") {
		t.Errorf("warnings %q", late)
	}
	if !j.has("log not archived") {
		t.Error("the log does not say it")
	}
	srv.Fail(nil)
	if a = c.archive(t.Context(), g, a); a == nil {
		t.Fatal("not archived again")
	}
	for i := 0; len(closedHere(t, cfg)) > 1; i++ { // the checkpoint moves once a second
		if i == 600 {
			t.Fatalf("generations %v stay for nothing", closedHere(t, cfg))
		}
		time.Sleep(50 * time.Millisecond)
		if i%40 != 39 {
			continue
		}
		// What was above the checkpoint when the last backup was confirmed goes with the next one.
		if _, err := Backup(t.Context(), c, BackupOptions{Kind: "incremental", To: sets}); err != nil {
			t.Fatal(err)
		}
		if a = c.archive(t.Context(), g, a); a == nil {
			t.Fatal("not archived")
		}
	}
	if s, err = c.status(); err != nil || s.Archives[0].Reason != "" || s.Archives[0].Files != 0 {
		t.Errorf("state: %+v, %v", s.Archives, err)
	}
	if !j.has("log archived again") {
		t.Error("the log does not say it")
	}
	gens, err := a.stream.Generations(t.Context())
	if err != nil || int(gens[len(gens)-1]-gens[0]) != len(gens)-1 || stream != a.in.LogSignature() {
		t.Errorf("the archive has a gap: %v, %v", gens, err)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
}

// Beyond archive_keep serving wins: the gap is told until a full backup bridges it.
func TestStoreAwayForTooLong(t *testing.T) {
	cfg, sets, srv := withStore(t, "archive_keep = \"64K\"\ncircular = true")
	g := &cfg.Groups[0]
	var j journal
	c, err := openCore(t.Context(), cfg, coreOptions{logger: j.logger(), still: true})
	if err != nil {
		t.Fatal(err)
	}
	a := c.archive(t.Context(), g, nil)
	srv.Fail(func(_ int, w http.ResponseWriter, _ *http.Request) bool {
		s3test.Drop(w)
		return true
	})
	for i := range 250 {
		addUser(t, c, fmt.Sprintf("user%d@pillarbox.test", i))
	}
	for i := 0; ; i++ { // the checkpoint moves once a second
		here := closedHere(t, cfg)
		if s, err := c.status(); err == nil && len(here) <= 2 && s.Archives[0].GapBelow != 0 {
			break
		}
		if i == 600 {
			t.Fatalf("generations %v are here", here)
		}
		time.Sleep(50 * time.Millisecond)
	}
	if !j.has("log removed that the archive has not taken") {
		t.Error("the log does not say it")
	}
	n := c.backups.notes()
	if w := strings.Join(c.warnings(&n, time.Now()), "\n"); !strings.Contains(w, "no restore leads over this gap") {
		t.Errorf("warnings: %s", w)
	}
	srv.Fail(nil)
	if a = c.archive(t.Context(), g, a); a == nil {
		t.Fatal("not archived again")
	}
	if _, err := Backup(t.Context(), c, BackupOptions{Kind: "full", To: sets}); err != nil {
		t.Fatal(err)
	}
	addUser(t, c, "late@pillarbox.test")
	if a = c.archive(t.Context(), g, a); a == nil {
		t.Fatal("not archived")
	}
	n = c.backups.notes()
	if w := strings.Join(c.warnings(&n, time.Now()), "\n"); strings.Contains(w, "gap") {
		t.Errorf("a full backup bridges it, but: %s", w)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	into := filepath.Join(t.TempDir(), "new")
	config, err := RestoreInto(t.Context(), into, RestoreOptions{From: sets, Say: say(t)})
	if err != nil {
		t.Fatal(err)
	}
	if other, err := LoadConfig(config); err != nil || users(t, other) != 253 {
		t.Errorf("not all accounts came back: %v", err)
	}
}

func TestArchiveKeep(t *testing.T) {
	for text, want := range map[string]ArchiveKeep{
		"25%": {percent: 25}, "500M": {bytes: 500 << 20}, "20G": {bytes: 20 << 30}, "4096": {bytes: 4096},
	} {
		var k ArchiveKeep
		if err := k.UnmarshalText([]byte(text)); err != nil || k != want {
			t.Errorf("%s: %+v, %v", text, k, err)
		}
	}
	for _, bad := range []string{"", "0", "0%", "95%", "-1", "x", "9999999T", "G"} {
		if err := new(ArchiveKeep).UnmarshalText([]byte(bad)); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
	used := func() int64 { return 400 << 20 }
	const gen = 5 << 20
	for _, c := range []struct{ limit, free, total, want int64 }{
		{1 << 30, 500 << 20, 100 << 30, 1 << 30},     // room
		{1 << 30, 220 << 20, 100 << 30, 300 << 20},   // 100 MiB too little
		{1 << 30, 0, 100 << 30, 80 << 20},            // full
		{100 << 20, 300 << 20, 100 << 30, 100 << 20}, // the limit is lower
		{1 << 30, 30 << 20, 500 << 20, 1 << 30},      // of a small disk a twentieth is enough
	} {
		if got := room(c.limit, c.free, c.total, gen, used); got != c.want {
			t.Errorf("%+v: %d MiB", c, got>>20)
		}
	}
}

func TestStoreKeys(t *testing.T) {
	dir := t.TempDir()
	file := func(text string) string {
		at := filepath.Join(dir, "keys")
		if err := os.WriteFile(at, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return at
	}
	none := func(string) string { return "" }
	c := S3Config{Credentials: file("[other]\naws_access_key_id=o\n[default]\n# mine\naws_access_key_id = a\n" +
		"aws_secret_access_key= b=c/+\n\n[last]\naws_access_key_id = x\n")}
	k, err := c.keys(none)
	if err != nil || k.Access != "a" || k.Secret != "b=c/+" {
		t.Errorf("%+v, %v", k, err)
	}
	env := map[string]string{
		"AWS_ACCESS_KEY_ID": "e", "AWS_SECRET_ACCESS_KEY": "f", "AWS_SESSION_TOKEN": "g",
		"AWS_REGION": "r", "AWS_ENDPOINT_URL_S3": "https://other.test",
	}
	o, err := c.options(func(name string) string { return env[name] })
	if err != nil || o.Keys.Access != "e" || o.Keys.Session != "g" || o.Region != "r" || o.Endpoint != "https://other.test" {
		t.Errorf("%+v, %v", o, err)
	}
	c.Credentials = file("aws_access_key_id = a\n")
	if _, err := c.keys(none); err == nil || !strings.Contains(err.Error(), "lacks") {
		t.Errorf("half a key: %v", err)
	}
	c.Credentials = ""
	if _, err := c.keys(none); err == nil || !strings.Contains(err.Error(), "s3.credentials") {
		t.Errorf("no keys: %v", err)
	}
	for name, bad := range map[string]S3Config{
		"endpoint": {Endpoint: "s3.example.org"}, "half a key": {AccessKey: "a"},
		"two": {AccessKey: "a", SecretKey: "b", Credentials: "c"}, "addressing": {Addressing: "x"},
	} {
		if bad.check() == nil {
			t.Errorf("%s: taken", name)
		}
	}
}
