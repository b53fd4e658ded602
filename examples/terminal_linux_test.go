package examples

import (
	"fmt"
	"io"
	"os"
	"syscall"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestTerminal checks that colors and progress are only shown on a terminal, unless the environment disables
// them.
func TestTerminal(t *testing.T) {
	t.Parallel()
	short(t)
	for _, test := range []struct {
		name, example string
		args          []string
		env           string
		want, not     string
	}{
		{"colors", "logs", []string{"-demo", "-level", "error", "-n", "1"}, "TERM=xterm", "\x1b[31m", ""},
		{"NO_COLOR", "logs", []string{"-demo", "-level", "error", "-n", "1"}, "NO_COLOR=1", "[ERROR]", "\x1b"},
		{"no colors for TERM=dumb", "logs", []string{"-demo", "-level", "error", "-n", "1"}, "TERM=dumb", "[ERROR]", "\x1b"},
		{"no colors in JSON", "logs", []string{"-demo", "-level", "error", "-n", "1", "-json"}, "TERM=xterm", `"error"`, "\x1b"},
		{"progress of a survey", "survey", []string{"-demo"}, "TERM=xterm", "\r\x1b[K7 of 7 servers\r\x1b[K", ""},
		{"no progress for TERM=dumb", "survey", []string{"-demo"}, "TERM=dumb", "server-1.global", "\x1b"},
		{"progress of a profile", "profile", []string{"-demo", "-seconds", "1"}, "TERM=xterm", "\r\x1b[K0s of 1s", ""},
		{"no countdown for TERM=dumb", "profile", []string{"-demo", "-seconds", "1"}, "TERM=dumb", "profiling", "\x1b"},
	} {
		t.Run(test.name, func(t *testing.T) {
			master, slave := openTerminal(t)
			cmd := command(t, t.TempDir(), test.example, test.args...)
			cmd.Env = append(os.Environ(), "NO_COLOR=", "TERM=xterm", test.env)
			cmd.Stdout, cmd.Stderr = slave, slave
			require.NoError(t, cmd.Start())
			slave.Close()
			output, _ := io.ReadAll(master) // returns an error when the program has ended
			cmd.Wait()
			assert.Contains(t, string(output), test.want)
			if test.not != "" {
				assert.NotContains(t, string(output), test.not)
			}
		})
	}
}

// openTerminal returns both ends of a terminal.
func openTerminal(t *testing.T) (master, slave *os.File) {
	t.Helper()
	fd, err := syscall.Open("/dev/ptmx", syscall.O_RDWR|syscall.O_NOCTTY|syscall.O_CLOEXEC, 0)
	if err != nil {
		t.Skip("this system has no terminals: ", err)
	}
	master = os.NewFile(uintptr(fd), "/dev/ptmx")
	t.Cleanup(func() { master.Close() })
	var unlock, number int32
	for request, argument := range map[uintptr]*int32{syscall.TIOCSPTLCK: &unlock, syscall.TIOCGPTN: &number} {
		_, _, errno := syscall.Syscall(syscall.SYS_IOCTL, uintptr(fd), request, uintptr(unsafe.Pointer(argument)))
		require.Zero(t, errno)
	}
	slave, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|syscall.O_NOCTTY, 0)
	require.NoError(t, err)
	return master, slave
}
