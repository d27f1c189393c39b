package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"time"

	"pillarbox/ese/inspect/report"
	"pillarbox/ese/vfs"
)

// version is set by the linker.
var version = "dev"

const usage = `Usage:
  eseutil /mh FILE   header of a database (.edb) or stream file (.stm)
  eseutil /mk FILE   checkpoint file (.chk)
  eseutil /k  FILE   checksums of a .edb, .stm, .log or .chk file, or of all log
                     files with a base name (DIR/E00)

A minus sign may stand for the slash. Files in use are read as they stand.
`

// mode is one letter group of the command line.
type mode struct {
	flag, title string
	run         func(ctx context.Context, w io.Writer, path string) error
}

func modes() []mode {
	disk := vfs.OS()
	return []mode{
		{"mh", "FILE DUMP", func(_ context.Context, w io.Writer, path string) error {
			return report.Header(w, disk, path)
		}},
		{"mk", "FILE DUMP", func(_ context.Context, w io.Writer, path string) error {
			return report.Checkpoint(w, disk, path)
		}},
		{"k", "CHECKSUM", func(ctx context.Context, w io.Writer, path string) error {
			return report.Checksum(ctx, w, disk, path)
		}},
	}
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	m, path, ok := parse(args)
	if !ok {
		_, _ = io.WriteString(stderr, usage)
		return 2
	}
	w := bufio.NewWriter(stdout)
	fmt.Fprintf(w, "\nExtensible Storage Engine Utilities for Pillarbox\nVersion %s\n\n", version)
	fmt.Fprintf(w, "Initiating %s mode...\n\n", m.title)
	start := time.Now()
	err := m.run(ctx, w, path)
	took := time.Since(start).Seconds()
	if err != nil {
		fmt.Fprintf(w, "\nOperation terminated with error (%v) after %.3f seconds.\n\n", err, took)
	} else {
		fmt.Fprintf(w, "\nOperation completed successfully in %.3f seconds.\n\n", took)
	}
	if ferr := w.Flush(); err == nil && ferr != nil {
		_, _ = fmt.Fprintln(stderr, "eseutil:", ferr)
		return 1
	}
	if err != nil {
		return 1
	}
	return 0
}

// parse takes the mode in either form and upper or lower case, and the file before or after it.
func parse(args []string) (mode, string, bool) {
	if len(args) != 2 {
		return mode{}, "", false
	}
	for i := range args {
		for _, m := range modes() {
			flag, path := args[i], args[1-i]
			if len(flag) > 1 && (flag[0] == '/' || flag[0] == '-') &&
				strings.EqualFold(flag[1:], m.flag) {
				return m, path, true
			}
		}
	}
	return mode{}, "", false
}
