package s3

import (
	"encoding/hex"
	"net/http"
	"strings"
	"testing"
	"time"
)

// The examples that AWS publishes: those of the S3 documents (May 2013), and get-vanilla of the test
// suite of Signature Version 4 (August 2015).
func TestSignAsPublished(t *testing.T) {
	s3Keys := Keys{Access: "AKIAIOSFODNN7EXAMPLE", Secret: "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"}
	suiteKeys := Keys{Access: "AKIDEXAMPLE", Secret: "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"}
	s3Day := time.Date(2013, 5, 24, 0, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		name, method, url, body string
		header                  map[string]string
		keys                    Keys
		scope                   scope
		at                      time.Time
		want                    string
	}{
		{
			"get object", "GET", "https://examplebucket.s3.amazonaws.com/test.txt", "",
			map[string]string{"Range": "bytes=0-9"},
			s3Keys,
			scope{"us-east-1", "s3"},
			s3Day,
			"f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41",
		},
		{
			"put object", "PUT", "https://examplebucket.s3.amazonaws.com/test%24file.text",
			"Welcome to Amazon S3.",
			map[string]string{
				"Date": "Fri, 24 May 2013 00:00:00 GMT", "X-Amz-Storage-Class": "REDUCED_REDUNDANCY",
			},
			s3Keys,
			scope{"us-east-1", "s3"},
			s3Day,
			"98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd",
		},
		{
			"get lifecycle", "GET", "https://examplebucket.s3.amazonaws.com/?lifecycle=", "", nil,
			s3Keys,
			scope{"us-east-1", "s3"},
			s3Day,
			"fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543",
		},
		{
			"list objects", "GET", "https://examplebucket.s3.amazonaws.com/?max-keys=2&prefix=J", "", nil,
			s3Keys,
			scope{"us-east-1", "s3"},
			s3Day,
			"34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7",
		},
		{
			"get-vanilla", "GET", "https://example.amazonaws.com/", "", nil, suiteKeys,
			scope{"us-east-1", "service"},
			time.Date(2015, 8, 30, 12, 36, 0, 0, time.UTC),
			"5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			req, err := http.NewRequest(c.method, c.url, http.NoBody)
			if err != nil {
				t.Fatal(err)
			}
			for name, v := range c.header {
				req.Header.Set(name, v)
			}
			hash := hexSum([]byte(c.body))
			if c.scope.service == "s3" {
				req.Header.Set(headerHash, hash)
			}
			sign(req, c.keys, c.scope, hash, c.at)
			got := req.Header.Get("Authorization")
			if !strings.HasSuffix(got, ", Signature="+c.want) {
				t.Errorf("signed %s\nwant signature %s", got, c.want)
			}
		})
	}
}

// The key that the documents derive for IAM.
func TestSigningKeyAsPublished(t *testing.T) {
	key := signingKey("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", "20150830", scope{"us-east-1", "iam"})
	want := "c4afb1cc5771d871763a393e44b703571b55cc28424d1a5e86da6ed3c154a4b9"
	if got := hex.EncodeToString(key); got != want {
		t.Errorf("key %s, want %s", got, want)
	}
}

func TestEncode(t *testing.T) {
	for in, want := range map[string]string{
		"a-b_c.d~e": "a-b_c.d~e", "a b+c": "a%20b%2Bc", "ü": "%C3%BC", "a/b": "a%2Fb", "$&=": "%24%26%3D",
	} {
		if got := encode(in, false); got != want {
			t.Errorf("encode(%q) = %q, want %q", in, got, want)
		}
	}
	if got := encode("a/b c", true); got != "a/b%20c" {
		t.Errorf("as a path: %q", got)
	}
}
