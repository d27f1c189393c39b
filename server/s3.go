package server

import (
	"cmp"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"pillarbox/archive"
	"pillarbox/archive/s3"
)

// S3Config says where archives called s3://BUCKET/PREFIX are, and with which keys. The environment
// variables that other programs know go before it, so that a restore can be given others.
type S3Config struct {
	// Endpoint is the URL of the store. Empty: that of AWS for the region.
	Endpoint string `toml:"endpoint"`
	Region   string `toml:"region"`
	// Addressing is path (the default, but for AWS) or host: where the bucket stands in the URL.
	Addressing string `toml:"addressing"`
	// Credentials is a file with aws_access_key_id and aws_secret_access_key; or they stand here.
	Credentials string `toml:"credentials"`
	AccessKey   string `toml:"access_key"`
	SecretKey   string `toml:"secret_key"`
	// CA is a file (PEM) with the authorities of the store's certificate. Empty: the system's.
	CA string `toml:"ca"`
	// Stall is how long a request may make no progress (30s), Tries how often it is tried (4).
	Stall Duration `toml:"stall"`
	Tries int      `toml:"tries"`
}

func (c *S3Config) check() error {
	if err := s3.CheckEndpoint(c.Endpoint); err != nil {
		return fmt.Errorf("s3.%w", err)
	}
	if (c.AccessKey == "") != (c.SecretKey == "") {
		return errors.New("s3.access_key and s3.secret_key belong together")
	}
	if c.AccessKey != "" && c.Credentials != "" {
		return errors.New("s3.credentials names a file: leave s3.access_key and s3.secret_key out")
	}
	if c.Tries < 0 {
		return errors.New("s3.tries cannot be negative")
	}
	return oneOf("s3.addressing", c.Addressing, "", "path", "host")
}

// checkArchive checks where the archive of a group is.
func (g *GroupConfig) checkArchive() error {
	if !archive.IsBucket(g.Archive) {
		return nil
	}
	if _, _, err := archive.ParseBucket(g.Archive); err != nil {
		return fmt.Errorf("group.archive: %w", err)
	}
	return nil
}

// openArchive opens the archive at a place. Files of keys and authorities are read anew each time.
func (c *Config) openArchive(place string) (archive.Store, error) {
	if !archive.IsBucket(place) {
		return archive.Folder(place), nil
	}
	o, err := c.S3.options(os.Getenv)
	if err != nil {
		return nil, fmt.Errorf("archive %s: %w", place, err)
	}
	return archive.Open(place, o)
}

// options are those of package s3.
func (c *S3Config) options(env func(string) string) (o s3.Options, err error) {
	o = s3.Options{
		Endpoint: cmp.Or(env("AWS_ENDPOINT_URL_S3"), env("AWS_ENDPOINT_URL"), c.Endpoint),
		Region:   cmp.Or(env("AWS_REGION"), env("AWS_DEFAULT_REGION"), c.Region),
		Stall:    time.Duration(c.Stall), Tries: c.Tries, HostStyle: c.Addressing == "host",
	}
	if o.Keys, err = c.keys(env); err != nil {
		return o, err
	}
	if c.CA == "" {
		return o, nil
	}
	pem, err := os.ReadFile(c.CA)
	if err != nil {
		return o, fmt.Errorf("s3.ca: %w", err)
	}
	o.Roots = x509.NewCertPool()
	if !o.Roots.AppendCertsFromPEM(pem) {
		return o, fmt.Errorf("s3.ca: %s holds no certificate in PEM", c.CA)
	}
	return o, nil
}

// errNoKeys: nobody said with which keys.
var errNoKeys = errors.New("no keys for the store: set s3.credentials to a file, or s3.access_key and " +
	"s3.secret_key, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in the environment")

// keys are those of the environment, of the credentials file, or of the config.
func (c *S3Config) keys(env func(string) string) (s3.Keys, error) {
	if id := env("AWS_ACCESS_KEY_ID"); id != "" {
		return s3.Keys{
			Access: id, Secret: env("AWS_SECRET_ACCESS_KEY"), Session: env("AWS_SESSION_TOKEN"),
		}, nil
	}
	if c.Credentials != "" {
		return readCredentials(c.Credentials)
	}
	if c.AccessKey == "" {
		return s3.Keys{}, errNoKeys
	}
	return s3.Keys{Access: c.AccessKey, Secret: c.SecretKey}, nil
}

// readCredentials reads a file as other programs keep it: lines NAME = VALUE, of the first section
// or of the one called default.
func readCredentials(path string) (k s3.Keys, err error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return k, fmt.Errorf("s3.credentials: %w", err)
	}
	found := map[string]string{}
	section, first := "", true
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "[") {
			section = strings.Trim(line, "[] ")
			first = len(found) == 0
			if section == "default" {
				clear(found)
			}
			continue
		}
		name, v, ok := strings.Cut(line, "=")
		if !ok || strings.HasPrefix(line, "#") || section != "default" && !first {
			continue
		}
		found[strings.ToLower(strings.TrimSpace(name))] = strings.TrimSpace(v)
	}
	k = s3.Keys{
		Access: found["aws_access_key_id"], Secret: found["aws_secret_access_key"],
		Session: found["aws_session_token"],
	}
	if k.Access == "" || k.Secret == "" {
		return k, fmt.Errorf("s3.credentials: %s lacks aws_access_key_id or aws_secret_access_key", path)
	}
	return k, nil
}
