package server

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"pillarbox/ese"
)

// The admin protocol: POST /v1/OP with JSON on a unix socket, 200 with the result or 422 with
// adminError. POST /v1/stream/OP answers with a stream that tells its own end and failure.
const (
	adminPrefix   = "/v1/"
	streamPrefix  = "/v1/stream/"
	mostAdminBody = 16 << 20
	// longestSocketPath is what every system's sockaddr_un takes.
	longestSocketPath = 100
	// lockPatience is how long a verb waits for a server that is just starting or ending.
	lockPatience = 10 * time.Second
)

type adminError struct {
	Error string `json:"error"`
}

// socketPath is the admin socket of a data folder. Where the folder's path is too long for a
// socket it lies in a folder of its own under the system's temporary one.
func socketPath(dir string) string {
	p := filepath.Join(dir, "admin.sock")
	if len(p) <= longestSocketPath {
		return p
	}
	sum := sha256.Sum256([]byte(dir))
	return filepath.Join(os.TempDir(), fmt.Sprintf("pillarbox-%x", sum[:8]), "admin.sock")
}

// trustFolder refuses a socket outside of the data folder whose folder is not ours alone: under
// the system's temporary folder anybody could have made it first, to be told the passwords that
// verbs set.
func trustFolder(dir, path string) error {
	folder := filepath.Dir(path)
	if folder == filepath.Clean(dir) {
		return nil
	}
	info, err := os.Lstat(folder)
	if err != nil {
		return err
	}
	if !info.IsDir() || !ownFolder(info) {
		return fmt.Errorf("%s is not a folder of ours alone: remove it, or use a shorter data folder",
			folder)
	}
	return nil
}

// listenAdmin opens the socket. What a killed server left is removed: the storage group's lock
// is ours.
func listenAdmin(dir string) (net.Listener, error) {
	path := socketPath(dir)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fmt.Errorf("open admin socket: %w", err)
	}
	if err := trustFolder(dir, path); err != nil {
		return nil, fmt.Errorf("open admin socket: %w", err)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("open admin socket: %w", err)
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, fmt.Errorf("open admin socket: %w", err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, errors.Join(fmt.Errorf("open admin socket: %w", err), l.Close())
	}
	return l, nil
}

// adminHandler answers the command line.
func adminHandler(c *Core, logger *slog.Logger) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST "+adminPrefix+"{op}", func(w http.ResponseWriter, r *http.Request) {
		op := Op(r.PathValue("op"))
		in, err := io.ReadAll(http.MaxBytesReader(w, r.Body, mostAdminBody))
		var out any
		if err == nil {
			out, err = c.answer(r.Context(), op, in)
		}
		if s, ok := out.(*Status); ok && err == nil {
			s.Serving = true
		}
		w.Header().Set("Content-Type", "application/json")
		if err != nil {
			logger.Warn("administration refused", "op", string(op), "err", err)
			w.WriteHeader(http.StatusUnprocessableEntity)
			out = adminError{err.Error()}
		} else {
			logger.Info("administration", "op", string(op))
		}
		if err := json.NewEncoder(w).Encode(out); err != nil {
			logger.Warn("administration not answered", "op", string(op), "err", err)
		}
	})
	mux.HandleFunc("POST "+streamPrefix+"{op}", func(w http.ResponseWriter, r *http.Request) {
		op := Op(r.PathValue("op"))
		in, err := io.ReadAll(http.MaxBytesReader(w, r.Body, mostAdminBody))
		if err == nil {
			w.Header().Set("Content-Type", "application/octet-stream")
			err = c.stream(r.Context(), op, in, w)
		}
		if err != nil {
			logger.Warn("administration refused", "op", string(op), "err", err)
			return
		}
		logger.Info("administration", "op", string(op))
	})
	return mux
}

// adminClient is an Admin that asks a running server.
type adminClient struct{ http *http.Client }

var (
	_ Admin = (*adminClient)(nil)
	_ Admin = (*Core)(nil)
)

// OpenAdmin asks the running server of a config, or opens its storage group when none runs.
func OpenAdmin(ctx context.Context, cfg *Config) (Admin, error) {
	return openAdmin(ctx, cfg, "")
}

// MountWithLoss mounts a storage group although its newest log is lost, and tells what was given up.
func MountWithLoss(ctx context.Context, cfg *Config, group string) (m GroupMounted, err error) {
	a, err := openAdmin(ctx, cfg, group)
	if err != nil {
		return m, err
	}
	err = a.Do(ctx, OpGroupMount, GroupInput{Name: group, AcceptLoss: true}, &m)
	return m, errors.Join(err, a.Close())
}

// openAdmin is OpenAdmin; where no server runs the named group is mounted with the loss of log.
func openAdmin(ctx context.Context, cfg *Config, acceptLoss string) (Admin, error) {
	path := socketPath(cfg.Dir)
	if err := trustFolder(cfg.Dir, path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("find admin socket: %w", err)
	}
	for start := time.Now(); ; {
		if c, err := net.DialTimeout("unix", path, time.Second); err == nil {
			_ = c.Close()
			return newAdminClient(path), nil
		}
		core, err := openCore(ctx, cfg, coreOptions{
			logger: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{
				Level: slog.LevelWarn,
			})),
			still: true, acceptLoss: acceptLoss,
		})
		if err == nil {
			return core, nil
		}
		if !errors.Is(err, ese.ErrLocked) || time.Since(start) > lockPatience {
			return nil, err
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(200 * time.Millisecond):
		}
	}
}

func newAdminClient(path string) *adminClient {
	return &adminClient{&http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", path)
		},
	}}}
}

// post sends an operation.
func (c *adminClient) post(
	ctx context.Context, prefix string, op Op, in any,
) (*http.Response, error) {
	b, err := json.Marshal(in)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost,
		"http://pillarbox"+prefix+string(op), bytes.NewReader(b))
	if err != nil {
		return nil, err
	}
	res, err := c.http.Do(req)
	if err != nil {
		return nil, fmt.Errorf("ask the running server: %w", err)
	}
	return res, nil
}

// Stream asks the server.
func (c *adminClient) Stream(ctx context.Context, op Op, in any) (io.ReadCloser, error) {
	res, err := c.post(ctx, streamPrefix, op, in)
	if err != nil {
		return nil, err
	}
	if res.StatusCode != http.StatusOK {
		return nil, errors.Join(fmt.Errorf("ask the running server: %s", res.Status), res.Body.Close())
	}
	return res.Body, nil
}

// Do asks the server.
func (c *adminClient) Do(ctx context.Context, op Op, in, out any) error {
	res, err := c.post(ctx, adminPrefix, op, in)
	if err != nil {
		return err
	}
	defer func() { _ = res.Body.Close() }()
	if res.StatusCode != http.StatusOK {
		var e adminError
		if err := json.NewDecoder(res.Body).Decode(&e); err != nil || e.Error == "" {
			return fmt.Errorf("ask the running server: %s", res.Status)
		}
		return errors.New(e.Error)
	}
	if out == nil {
		return nil
	}
	if err := json.NewDecoder(res.Body).Decode(out); err != nil {
		return fmt.Errorf("ask the running server: %w", err)
	}
	return nil
}

// Close ends the connection.
func (c *adminClient) Close() error {
	c.http.CloseIdleConnections()
	return nil
}
