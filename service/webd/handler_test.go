package webd

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func testHandler(health error) *Handler {
	return New(Options{
		Setup: Setup{
			Domain: "pillarbox.test", Host: "mail.pillarbox.test", IMAP: 10143, IMAPS: 10993,
			POP3: 10110, POP3S: 10995, SMTP: 10025, Submission: 10587, Submissions: 10465,
			HasCA: true, Plaintext: true,
		},
		CA:      func() ([]byte, error) { return []byte("PEM"), nil },
		Health:  func() error { return health },
		Metrics: func(w io.Writer) { _, _ = io.WriteString(w, "pillarbox_up 1\n") },
	})
}

func TestPages(t *testing.T) {
	tests := []struct {
		name, path, accept, remote, host string
		code                             int
		want                             []string
	}{
		{name: "english", path: "/", code: 200, want: []string{
			"Your mail is ready", "10993", "10465", "10995", "mail.pillarbox.test", "Foxmail",
		}},
		{
			name: "chinese by header", path: "/", accept: "zh-TW,zh;q=0.9,en;q=0.8", code: 200,
			want: []string{"\u60a8\u7684\u90ae\u7bb1", `lang="zh-CN"`, "10993"},
		},
		{
			name: "parameter before header", path: "/?lang=en", accept: "zh", code: 200,
			want: []string{"Your mail is ready"},
		},
		{
			name: "other language", path: "/", accept: "fr,de", code: 200,
			want: []string{"Your mail is ready"},
		},
		{name: "ca", path: "/ca.crt", code: 200, want: []string{"PEM"}},
		{name: "health", path: "/healthz", code: 200, want: []string{"ok"}},
		{name: "missing", path: "/etc/passwd", code: 404},
		{name: "metrics", path: "/metrics", code: 200, want: []string{"pillarbox_up 1"}},
		{name: "metrics from afar", path: "/metrics", remote: "192.0.2.1:999", code: 404},
		{name: "metrics rebound", path: "/metrics", host: "evil.example:80", code: 404},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := httptest.NewRequest(http.MethodGet, tt.path, nil)
			r.Header.Set("Accept-Language", tt.accept)
			r.RemoteAddr, r.Host = "127.0.0.1:999", "localhost:10080"
			if tt.remote != "" {
				r.RemoteAddr = tt.remote
			}
			if tt.host != "" {
				r.Host = tt.host
			}
			w := httptest.NewRecorder()
			testHandler(nil).ServeHTTP(w, r)
			if w.Code != tt.code {
				t.Fatalf("status %d, want %d", w.Code, tt.code)
			}
			for _, s := range tt.want {
				if !strings.Contains(w.Body.String(), s) {
					t.Errorf("%q is not in the page", s)
				}
			}
			if w.Header().Get("Content-Security-Policy") == "" {
				t.Error("no Content-Security-Policy")
			}
		})
	}
}

func TestUnhealthy(t *testing.T) {
	w := httptest.NewRecorder()
	testHandler(errors.New("log is dead")).ServeHTTP(w, httptest.NewRequest("GET", "/healthz", nil))
	if w.Code != http.StatusServiceUnavailable || !strings.Contains(w.Body.String(), "log is dead") {
		t.Errorf("got %d %q", w.Code, w.Body)
	}
}

// A server on all addresses is named as the browser names it.
func TestHostOfRequest(t *testing.T) {
	h := New(Options{Setup: Setup{Domain: "pillarbox.test", IMAPS: 993}})
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	r.Host = "192.0.2.7:10080"
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	if !strings.Contains(w.Body.String(), "<code>192.0.2.7</code>") {
		t.Error("the host of the request is not on the page")
	}
}

func TestOnlyReading(t *testing.T) {
	w := httptest.NewRecorder()
	testHandler(nil).ServeHTTP(w, httptest.NewRequest("POST", "/", nil))
	if w.Code != http.StatusMethodNotAllowed {
		t.Errorf("POST: %d", w.Code)
	}
}

// Every text of one language must be there in the other.
func TestLanguagesComplete(t *testing.T) {
	en, zh := englishTexts(), chineseTexts()
	if len(en.Clients) != len(zh.Clients) {
		t.Fatalf("%d clients in English, %d in Chinese", len(en.Clients), len(zh.Clients))
	}
	for i := range en.Clients {
		if len(en.Clients[i].Steps) != len(zh.Clients[i].Steps) {
			t.Errorf("%s: %d steps in English, %d in Chinese", en.Clients[i].Client,
				len(en.Clients[i].Steps), len(zh.Clients[i].Steps))
		}
	}
}
