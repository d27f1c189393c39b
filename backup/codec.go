package backup

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"filippo.io/age"
	"github.com/klauspost/compress/zstd"
)

// Names of what a codec does, as manifests and flags have them.
const (
	compressZstd = "zstd"
	encryptAge   = "age"
)

// Codec is what is done to the files of a set. The zero value leaves them as they are.
type Codec struct {
	compress   bool
	recipients []age.Recipient
	// phrase tells that the recipient is a passphrase, which takes a second to work out: a set
	// then has a key of its own, which alone is encrypted with it.
	phrase bool
	// secret opens what is encrypted with a passphrase, mark tells recipients from others.
	secret age.Identity
	mark   string
}

// NewCodec makes a codec. compress is "" or zstd; encrypt is "", an age recipient, or a file
// with recipients or with a passphrase in its first line.
func NewCodec(compress, encrypt string) (c Codec, err error) {
	switch compress {
	case "":
	case compressZstd:
		c.compress = true
	default:
		return c, fmt.Errorf("--compress %s: only zstd is known", compress)
	}
	if encrypt != "" {
		if err := c.parseRecipients(encrypt); err != nil {
			return c, fmt.Errorf("--encrypt %s: %w: name an age recipient (age1...), or a file with "+
				"recipients or with a passphrase in its first line", encrypt, err)
		}
	}
	return c, nil
}

func (c *Codec) parseRecipients(s string) (err error) {
	text := []byte(s)
	if !strings.HasPrefix(s, "age1") {
		if text, err = os.ReadFile(s); err != nil {
			return err
		}
	}
	sum := sha256.Sum256(bytes.TrimSpace(text))
	c.mark = hex.EncodeToString(sum[:8])
	if c.recipients, err = age.ParseRecipients(bytes.NewReader(text)); err == nil ||
		strings.HasPrefix(s, "age1") {
		return err
	}
	r, err := age.NewScryptRecipient(firstLine(text))
	if err != nil {
		return err
	}
	id, err := age.NewScryptIdentity(firstLine(text))
	if err != nil {
		return err
	}
	c.recipients, c.phrase, c.secret, c.mark = []age.Recipient{r}, true, id, "phrase"
	return nil
}

// again is the codec for the rest of a set that has this Key.
func (c Codec) again(key []byte) (Codec, error) {
	if !c.phrase {
		return c, nil
	}
	k, err := Keys{[]age.Identity{c.secret}}.forSet(&Manifest{Key: key})
	if err != nil {
		return c, err
	}
	id, ok := k.identities[0].(*age.X25519Identity)
	if !ok {
		return c, ErrDamaged
	}
	c.recipients, c.phrase = []age.Recipient{id.Recipient()}, false
	return c, nil
}

// forSet is the codec for the files of one set, and what its manifest has as Key.
func (c Codec) forSet() (Codec, []byte, error) {
	if !c.phrase {
		return c, nil, nil
	}
	id, err := age.GenerateX25519Identity()
	if err != nil {
		return c, nil, err
	}
	var key bytes.Buffer
	w, err := age.Encrypt(&key, c.recipients...)
	if err == nil {
		_, err = io.WriteString(w, id.String())
		err = errors.Join(err, w.Close())
	}
	c.recipients, c.phrase = []age.Recipient{id.Recipient()}, false
	return c, key.Bytes(), err
}

func firstLine(b []byte) string {
	line, _, _ := bytes.Cut(b, []byte("\n"))
	return strings.TrimRight(string(line), "\r")
}

func (c *Codec) plain() bool { return !c.compress && c.recipients == nil }

// suffix is what the codec adds to file names.
func (c *Codec) suffix() (s string) {
	if c.compress {
		s += ".zst"
	}
	if c.recipients != nil {
		s += ".age"
	}
	return s
}

// describe writes what was done into the manifest.
func (c *Codec) describe(m *Manifest) {
	m.Compress, m.Encrypt = "", ""
	if c.compress {
		m.Compress = compressZstd
	}
	if c.recipients != nil {
		m.Encrypt = encryptAge
	}
}

// writer closes its parts from the inside out.
type writer struct {
	io.Writer
	parts []io.Closer
}

func (w *writer) Close() error {
	var errs []error
	for _, p := range w.parts {
		errs = append(errs, p.Close())
	}
	return errors.Join(errs...)
}

// encode returns a writer whose bytes reach out compressed and encrypted. Its Close does not
// close out.
func (c *Codec) encode(out io.Writer) (io.WriteCloser, error) {
	w := &writer{Writer: out}
	if c.recipients != nil {
		e, err := age.Encrypt(out, c.recipients...)
		if err != nil {
			return nil, fmt.Errorf("encrypt: %w", err)
		}
		w.Writer, w.parts = e, []io.Closer{e}
	}
	if c.compress {
		z, err := zstd.NewWriter(w.Writer, zstd.WithEncoderConcurrency(1))
		if err != nil {
			return nil, fmt.Errorf("compress: %w", err)
		}
		w.Writer, w.parts = z, append([]io.Closer{z}, w.parts...)
	}
	return w, nil
}

// Keys open encrypted sets.
type Keys struct{ identities []age.Identity }

// LoadKeys reads a file with age identities, or with a passphrase in its first line. An empty
// name gives no keys.
func LoadKeys(name string) (Keys, error) {
	if name == "" {
		return Keys{}, nil
	}
	b, err := os.ReadFile(name)
	if err != nil {
		return Keys{}, fmt.Errorf("--identity: %w: %s", err, identityHelp)
	}
	if ids, err := age.ParseIdentities(bytes.NewReader(b)); err == nil {
		return Keys{ids}, nil
	}
	id, err := age.NewScryptIdentity(firstLine(b))
	if err != nil {
		return Keys{}, fmt.Errorf("--identity %s: %w: %s", name, err, identityHelp)
	}
	return Keys{[]age.Identity{id}}, nil
}

// identityHelp is the next step where a key file is of no use.
const identityHelp = "name the file with the age identity (AGE-SECRET-KEY-...) that the backup was " +
	"encrypted to, or with its passphrase in the first line"

func (k Keys) empty() bool { return len(k.identities) == 0 }

// forSet are the keys for the files of a set.
func (k Keys) forSet(m *Manifest) (Keys, error) {
	if len(m.Key) == 0 || k.empty() {
		return k, nil
	}
	r, err := age.Decrypt(bytes.NewReader(m.Key), k.identities...)
	if err != nil {
		return k, fmt.Errorf("%s: decrypt its key: %w: %s", m.ID, err, identityHelp)
	}
	ids, err := age.ParseIdentities(io.LimitReader(r, copyBytes))
	if err != nil {
		return k, fmt.Errorf("%s: its key: %w", m.ID, err)
	}
	return Keys{ids}, nil
}

// decode undoes encode of a set's codec.
func (m *Manifest) decode(in io.Reader, k Keys) (io.ReadCloser, error) {
	r := io.Reader(bufio.NewReaderSize(in, copyBytes))
	switch m.Encrypt {
	case "":
	case encryptAge:
		if k.empty() {
			return nil, ErrNeedsKey
		}
		d, err := age.Decrypt(r, k.identities...)
		if err != nil {
			return nil, fmt.Errorf("decrypt: %w: %s", err, identityHelp)
		}
		r = d
	default:
		return nil, fmt.Errorf("%w: encryption %q", ErrNewer, m.Encrypt)
	}
	switch m.Compress {
	case "":
		return io.NopCloser(r), nil
	case compressZstd:
		z, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1))
		if err != nil {
			return nil, fmt.Errorf("decompress: %w", err)
		}
		return z.IOReadCloser(), nil
	}
	return nil, fmt.Errorf("%w: compression %q", ErrNewer, m.Compress)
}
