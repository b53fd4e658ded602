// Package acceptance tests the API as a whole: recorded responses, faults of every kind, hostile
// responses, proxies and load. It contains only tests. Helpers that it shares with the tests of other
// packages are in package testkit.
package acceptance
