package reload

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// warnings is a Logger that records messages.
type warnings struct {
	mu    sync.Mutex
	texts []string
}

func (w *warnings) Warn(msg string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.texts = append(w.texts, msg+" "+fmt.Sprint(args...))
}

func (w *warnings) all() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.texts)
}

// write replaces a file in one step.
func write(t testing.TB, path, content string) {
	t.Helper()
	require.NoError(t, os.WriteFile(path+".new", []byte(content), 0o600))
	require.NoError(t, os.Rename(path+".new", path))
}

func newToken(t testing.TB, content string) (token *Token, path string, warned *warnings) {
	t.Helper()
	path, warned = filepath.Join(t.TempDir(), "token"), new(warnings)
	write(t, path, content)
	token, err := NewToken(path, warned)
	require.NoError(t, err)
	return token, path, warned
}

func get(t *testing.T, token *Token) string {
	t.Helper()
	got, err := token.Get(t.Context())
	require.NoError(t, err)
	return got
}

// unusable are invalid token files, with the error message after the path.
var unusable = []struct{ name, content, problem string }{
	{"empty", "", "is empty: want an ACL token"},
	{"blank", " \n\t", "is empty: want an ACL token"},
	{"two lines", "hunter2\nhunter2", "holds a character that no token has: U+000A"},
	{"two words", "hunter2 hunter2", "holds a character that no token has: U+0020"},
	{"a tab", "hunter2\thunter2", "holds a character that no token has: U+0009"},
	{"a NUL", "hunter2\x00", "holds a character that no token has: U+0000"},
	{"a DEL", "hunter2\x7fhunter2", "holds a character that no token has: U+007F"},
	{"a zero-width space", "hunter2\u200b", "holds a character that no token has: U+200B"},
	{"a second byte order mark", "\ufeff\ufeffhunter2", "holds a character that no token has: U+FEFF"},
	{"a no-break space inside", "hunter2\u00a0hunter2", "holds a character that no token has: U+00A0"},
	{"too long for a token", strings.Repeat("hunter2.", 64<<10/8) + "x",
		"is too long for a token: want at most 65536 bytes"},
}

func TestNewTokenReturnsTheContentWithoutSpaceAroundIt(t *testing.T) {
	for content, want := range map[string]string{
		"secret":                           "secret",
		"\ufeffsecret\r\n":                 "secret",
		"\ufeff secret":                    "secret",
		"\r\n secret \n":                   "secret",
		"a.b-c_d=":                         "a.b-c_d=",
		strings.Repeat("x", 64<<10) + "\n": strings.Repeat("x", 64<<10),
	} {
		token, _, warned := newToken(t, content)
		assert.Equal(t, want, get(t, token))
		assert.Empty(t, token.Problem())
		assert.Empty(t, warned.all())
	}
}

func TestNewTokenReturnsAnErrorForAnUnusableFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "token")
	for _, row := range unusable {
		t.Run(row.name, func(t *testing.T) {
			write(t, path, row.content)
			_, err := NewToken(path, new(warnings))
			assert.EqualError(t, err, fmt.Sprintf("%q %s", path, row.problem))
		})
	}
	require.NoError(t, os.Truncate(path, 16<<20+1))
	_, err := NewToken(path, new(warnings))
	assert.EqualError(t, err, fmt.Sprintf("%q is too long: want at most 16777216 bytes", path))
	_, err = NewToken(filepath.Join(dir, "none"), new(warnings))
	assert.ErrorIs(t, err, os.ErrNotExist)
	_, err = NewToken("", new(warnings))
	assert.EqualError(t, err, "open : no such file or directory")
	_, err = NewToken(dir, new(warnings))
	assert.EqualError(t, err, fmt.Sprintf("%q is not a file that can be read again", dir))
}

func TestGetReadsTheFileAgainWhenTheLastReadIsOlderThanASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		token, path, warned := newToken(t, "first")
		write(t, path, "second")
		time.Sleep(time.Second)
		assert.Equal(t, "first", get(t, token))
		time.Sleep(time.Nanosecond)
		assert.Equal(t, "second", get(t, token))
		write(t, path, "third")
		assert.Equal(t, "second", get(t, token))
		time.Sleep(time.Hour)
		assert.Equal(t, "third", get(t, token))
		assert.Empty(t, warned.all())
	})
}

func TestUnusableFileLeavesTheTokenAndWarnsOncePerProblem(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		token, path, warned := newToken(t, "first")
		var want []string
		check := func(problem string) {
			t.Helper()
			for range 3 {
				time.Sleep(1100 * time.Millisecond)
				assert.Equal(t, "first", get(t, token))
			}
			assert.Equal(t, problem, token.Problem())
			if text := "nomad: the token file cannot be used, the old token stays error" + problem; len(want) == 0 ||
				want[len(want)-1] != text {
				want = append(want, text)
			}
		}
		for _, row := range unusable {
			write(t, path, row.content)
			check(fmt.Sprintf("%q %s", path, row.problem))
		}
		require.NoError(t, os.Remove(path))
		check("open " + path + ": no such file or directory")

		// A valid file ends the problem, so that the same problem is reported again later.
		write(t, path, "first")
		time.Sleep(1100 * time.Millisecond)
		assert.Equal(t, "first", get(t, token))
		assert.Empty(t, token.Problem())
		require.NoError(t, os.Remove(path))
		want = append(want, want[len(want)-1])
		check("open " + path + ": no such file or directory")

		assert.Equal(t, want, warned.all())
		assert.NotContains(t, strings.Join(warned.all(), ""), "hunter2")
	})
}

func TestRereadReturnsWhatTheFileHasNow(t *testing.T) {
	token, path, _ := newToken(t, "first")
	for _, row := range []struct{ name, content, want string }{
		{"the file is as it was", "first", "first"},
		{"the file has changed", "second", "second"},
		{"the file is unusable", "", "second"},
		{"the file is usable again", "third", "third"},
	} {
		write(t, path, row.content)
		got, err := token.Reread(t.Context())
		require.NoError(t, err, row.name)
		assert.Equal(t, row.want, got, row.name)
		assert.Equal(t, row.want, token.Last(), row.name)
		assert.Equal(t, row.content == "", token.Problem() != "", row.name)
		assert.Equal(t, row.want, get(t, token), row.name)
	}
}

func TestConcurrentGetAndRereadReturnWhatTheFileHeld(t *testing.T) {
	token, path, warned := newToken(t, "token-0")
	var newest atomic.Int64
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			for range 100 {
				before := newest.Load()
				got, err := token.Reread(t.Context())
				var number int64
				if _, scanErr := fmt.Sscanf(got, "token-%d", &number); assert.NoError(t, errors.Join(err, scanErr)) {
					assert.GreaterOrEqual(t, number, before)
				}
				got, err = token.Get(t.Context())
				assert.NoError(t, err)
				assert.Contains(t, got, "token-")
				assert.Empty(t, token.Problem())
			}
		})
	}
	for number := range int64(100) {
		write(t, path, fmt.Sprint("token-", number))
		newest.Store(number)
	}
	group.Wait()
	assert.Empty(t, warned.all())
}

// script replaces the read function of a follower. Each read waits for a value and returns it.
type script[T any] struct {
	values  chan T
	running atomic.Int32
	begun   atomic.Int32
}

func scripted[T any](f *follower[T]) *script[T] {
	s := &script[T]{values: make(chan T)}
	f.read = func(T) (T, error) {
		if s.running.Add(1) > 1 {
			panic("two reads at a time")
		}
		defer s.running.Add(-1)
		s.begun.Add(1)
		return <-s.values, nil
	}
	return s
}

func TestHangingReadEndsCallersWithTheirContexts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		token, _, _ := newToken(t, "first")
		time.Sleep(2 * time.Second)
		reads := scripted(token.file)
		start := time.Now()
		var group sync.WaitGroup
		for i := range 10 {
			limit := time.Duration(i+1) * time.Second
			cause := fmt.Errorf("limit of %s", limit)
			ctx, cancel := context.WithTimeoutCause(t.Context(), limit, cause)
			defer cancel()
			group.Go(func() {
				_, err := token.Get(ctx)
				assert.Equal(t, cause, err)
				assert.Equal(t, limit, time.Since(start))
			})
			group.Go(func() {
				_, err := token.Reread(ctx)
				assert.Equal(t, cause, err)
				assert.Equal(t, limit, time.Since(start))
			})
		}
		group.Wait()
		assert.EqualValues(t, 1, reads.begun.Load())

		// The result of the read is used when it finally ends, and later reads work.
		reads.values <- "second"
		synctest.Wait()
		assert.Equal(t, "second", get(t, token))
		assert.EqualValues(t, 1, reads.begun.Load())
		time.Sleep(2 * time.Second)
		go func() { reads.values <- "third" }()
		assert.Equal(t, "third", get(t, token))
		assert.EqualValues(t, 2, reads.begun.Load())
	})
}

func TestRereadIsNotSatisfiedByAnEarlierRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		token, _, _ := newToken(t, "first")
		reads := scripted(token.file)
		var group sync.WaitGroup
		reread := func(want string) {
			group.Go(func() {
				got, err := token.Reread(t.Context())
				assert.NoError(t, err)
				assert.Equal(t, want, got)
			})
		}
		reread("first")
		synctest.Wait()
		for range 5 {
			reread("second")
		}
		synctest.Wait()
		reads.values <- "first"
		synctest.Wait()
		assert.EqualValues(t, 2, reads.begun.Load())
		reads.values <- "second"
		group.Wait()
		assert.EqualValues(t, 2, reads.begun.Load(), "callers share a read that began after their calls")
	})
}

func TestGetOfAFreshTokenNeedsNoContextAndNoMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // no time passes in the bubble
		token, _, _ := newToken(t, "first")
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		got, err := token.Get(ctx)
		assert.NoError(t, err)
		assert.Equal(t, "first", got)
		assert.Zero(t, testing.AllocsPerRun(100, func() { _, _ = token.Get(ctx) }))
	})
}

func BenchmarkTokenGet(b *testing.B) {
	token, _, _ := newToken(b, "first")
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := token.Get(b.Context()); err != nil {
				b.Error(err)
			}
		}
	})
}

// TestContentInPlaceOfAPath passes the content of a file in place of its name. It must not appear in an
// error.
func TestContentInPlaceOfAPath(t *testing.T) {
	long := "/" + strings.Repeat("hunter2", 40)
	for name, test := range map[string]struct{ path, want string }{
		"a secret ID":         {"5a7cbd2e-3f0a-4a0c-9d6e-0b7d3c1f2e4d", "this is a token, not the name of a file: use WithToken"},
		"an upper-case one":   {" 5A7CBD2E-3F0A-4A0C-9D6E-0B7D3C1F2E4D\n", "this is a token, not the name of a file: use WithToken"},
		"a workload identity": {"eyJhbGciOi.eyJhdWQiOi.c2ln-bmF0dXJl", "this is a token, not the name of a file: use WithToken"},
		"two lines":           {"hunter2\nhunter2", "this is not the name of a file: it has a line break or a zero byte"},
		"a key":               {"-----BEGIN EC PRIVATE KEY-----\nhunter2", "this is a key, not the name of a file: use KeyPEM"},
		"a certificate":       {"-----BEGIN CERTIFICATE-----\nhunter2", "this is PEM, not the name of a file: use the field that ends in PEM"},
		"a long path":         {long, "open the file: "},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := NewToken(test.path, new(warnings))
			require.Error(t, err)
			assert.True(t, strings.HasPrefix(err.Error(), test.want), err)
			for _, files := range []Files{{CAFile: test.path}, {CADir: test.path}, {CertFile: test.path, KeyFile: "x"}} {
				files.Source = func(field string) string { return field }
				_, err := NewTLS(files, new(warnings))
				require.Error(t, err)
				assert.NotContains(t, err.Error(), "hunter2")
				assert.NotContains(t, strings.ToLower(err.Error()), "5a7cbd2e")
			}
		})
	}
}

// TestFileWhoseNameLooksLikeContent reads files whose names could be their content. Errors do not quote the names.
func TestFileWhoseNameLooksLikeContent(t *testing.T) {
	t.Chdir(t.TempDir())
	ca := issue(t, nil)
	pair := issue(t, ca, "client")
	for _, name := range []string{
		"5a7cbd2e-3f0a-4a0c-9d6e-0b7d3c1f2e4d", "eyJhbGciOi.eyJhdWQiOi.c2ln-bmF0dXJl", "MY PRIVATE KEY.pem", "MII" + strings.Repeat("x", 60),
	} {
		write(t, name, "secret")
		token, err := NewToken(name, new(warnings))
		require.NoError(t, err, name)
		assert.Equal(t, "secret", get(t, token))
		write(t, name, "")
		_, err = NewToken(name, new(warnings))
		assert.EqualError(t, err, "the file is empty: want an ACL token")

		write(t, name, pair.certPEM()+pair.keyPEM(t)+ca.certPEM())
		newTLS(t, Files{CAFile: name, CertFile: name, KeyFile: name})
		require.NoError(t, os.Remove(name))
		require.NoError(t, os.Mkdir(name, 0o700))
		write(t, filepath.Join(name, "ca.pem"), ca.certPEM())
		newTLS(t, Files{CADir: name})
	}
}
