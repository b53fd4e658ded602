// Package acceptance tests the API as a whole: recorded responses, faults of every kind, hostile responses, proxies and
// load. It has no code but tests; package testkit has what tests of other packages share with them.
package acceptance
