// Package s3test is a store for tests: it keeps one bucket in memory, speaks S3, and refuses
// what is not signed as it should be, with the words that AWS uses.
//
// Server is started by Start, made to misbehave by Fail, and looked into by Keys. How
// it checks signatures is written apart from package s3, after the same documents.
//
// It knows no other bucket, no versions and no multipart upload.
package s3test
