package directory

import (
	"context"
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"fmt"
	"strings"
	"time"

	"golang.org/x/crypto/argon2"
	"golang.org/x/crypto/bcrypt"
)

// credential is what a password is checked against.
type credential struct {
	hash    string
	changed time.Time
	// SCRAM-SHA-256 (RFC 5802 3, RFC 7677): written with every password, since it cannot be
	// derived from the hash later.
	iterations           uint32
	salt, stored, server []byte
}

// Cost and limits of hashing.
const (
	scramIterations = 8192
	saltBytes       = 16
	hashBytes       = 32
	maxPassword     = 1024       // bytes
	maxHash         = 512        // characters of an imported hash
	maxHashKiB      = 128 << 10  // of an imported hash
	maxHashWork     = 1024 << 10 // its memory times its passes, in KiB
)

// newCredential works out what to store for a secret.
func (d *Directory) newCredential(ctx context.Context, s Secret) (credential, error) {
	if err := s.check(); err != nil {
		return credential{}, err
	}
	if s.Hash != "" {
		return credential{hash: s.Hash, changed: d.o.Now()}, nil
	}
	if err := d.hasher(ctx); err != nil {
		return credential{}, err
	}
	defer d.hasherDone()
	c := credential{
		hash: d.hash(s.Password), changed: d.o.Now(), iterations: scramIterations, salt: salt(),
	}
	salted, err := pbkdf2.Key(sha256.New, s.Password, c.salt, scramIterations, sha256.Size)
	if err != nil {
		return credential{}, fmt.Errorf("derive SCRAM keys: %w", err)
	}
	key := sha256.Sum256(mac(salted, "Client Key"))
	c.stored, c.server = key[:], mac(salted, "Server Key")
	return c, nil
}

// check tells whether a secret can be used.
func (s Secret) check() error {
	switch {
	case s.Hash == "" && (s.Password == "" || len(s.Password) > maxPassword):
		return fmt.Errorf("%w: empty or too long", ErrBadSecret)
	case s.Hash != "" && (len(s.Hash) > maxHash || !knownHash(s.Hash)):
		return fmt.Errorf("%w: the hash is not argon2id or bcrypt", ErrBadSecret)
	}
	return nil
}

func salt() []byte {
	b := make([]byte, saltBytes)
	_, _ = rand.Read(b) // never fails
	return b
}

func mac(key []byte, text string) []byte {
	h := hmac.New(sha256.New, key)
	_, _ = h.Write([]byte(text)) // never fails
	return h.Sum(nil)
}

// hasher waits for a core to hash on (mail.md 11).
func (d *Directory) hasher(ctx context.Context) error {
	select {
	case d.hashers <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (d *Directory) hasherDone() { <-d.hashers }

// hash makes the PHC string of a new password.
func (d *Directory) hash(password string) string {
	s := salt()
	sum := argon2.IDKey([]byte(password), s, d.o.HashPasses, d.o.HashMemoryKiB, 1, hashBytes)
	b64 := base64.RawStdEncoding
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=1$%s$%s", argon2.Version,
		d.o.HashMemoryKiB, d.o.HashPasses, b64.EncodeToString(s), b64.EncodeToString(sum))
}

// argonHash is a parsed PHC string.
type argonHash struct {
	memory, passes uint32
	threads        uint8
	salt, sum      []byte
}

// parseArgon reads "$argon2id$v=19$m=65536,t=3,p=4$salt$hash". Costs are bounded, since an
// import may come from anywhere.
func parseArgon(s string) (h argonHash, ok bool) {
	parts := strings.Split(s, "$")
	if len(parts) != 6 || parts[0] != "" || parts[1] != "argon2id" || parts[2] != "v=19" {
		return h, false
	}
	n, err := fmt.Sscanf(parts[3], "m=%d,t=%d,p=%d", &h.memory, &h.passes, &h.threads)
	if n != 3 || err != nil {
		return h, false
	}
	b64 := base64.RawStdEncoding.Strict()
	if h.salt, err = b64.DecodeString(strings.TrimRight(parts[4], "=")); err != nil {
		return h, false
	}
	if h.sum, err = b64.DecodeString(strings.TrimRight(parts[5], "=")); err != nil {
		return h, false
	}
	ok = h.memory >= 8 && h.memory <= maxHashKiB && h.passes >= 1 && h.threads >= 1 &&
		uint64(h.memory)*uint64(h.passes) <= maxHashWork &&
		len(h.salt) >= 8 && len(h.sum) >= 16 && len(h.sum) <= 64
	return h, ok
}

func isBcrypt(s string) bool {
	const costliest = 16
	cost, err := bcrypt.Cost([]byte(s))
	return err == nil && cost <= costliest
}

func knownHash(s string) bool {
	_, ok := parseArgon(s)
	return ok || isBcrypt(s)
}

// matches works out whether a password belongs to a hash.
func matches(hash, password string) bool {
	if h, ok := parseArgon(hash); ok {
		sum := argon2.IDKey([]byte(password), h.salt, h.passes, h.memory, h.threads, uint32(len(h.sum)))
		return subtle.ConstantTimeCompare(sum, h.sum) == 1
	}
	return isBcrypt(hash) && bcrypt.CompareHashAndPassword([]byte(hash), []byte(password)) == nil
}
