// Package moto starts moto_server for tests: a store of another maker that speaks S3 and checks
// signatures with another maker's code (botocore).
//
// Start skips the test, visibly, where the program is not installed (pip install "moto[server]").
// The store has one empty bucket and one account, and lists at most PageSize objects at once.
package moto
