// Package s3 puts, gets, lists and deletes objects of one bucket of an S3-compatible store.
//
// A Client speaks to one bucket, in the path (https://endpoint/bucket/key) or in the host name
// (https://bucket.endpoint/key). Each request is signed with AWS Signature Version 4 over method,
// path, query, headers and the SHA-256 of its body.
//
//	Put     one request with length, MD5 and SHA-256: the object appears whole or not at all
//	Get     a range or all; a connection that breaks is taken up where it broke, of the same object
//	Head    size, hash and metadata
//	List    every object below a prefix, page by page
//	Delete  one that is not there is no error
//
// Invariants:
//  1. What was put with its hash is proved by Get before it is said to be there.
//  2. A request that makes no progress for Options.Stall is ended. What may get better by itself (5xx,
//     429, the network) is tried again, Options.Tries times, after a random time that doubles.
//  3. No answer is believed beyond a bound, and no redirect is followed: a signature is for one host.
//  4. Every Error says what to do next. The secret key stands in no error, header or URL.
//
// It knows no multipart upload (so 5 GiB an object), no presigned URLs, and makes no buckets.
package s3
