package release_test

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ferrule-dev/ferrule/plugins/registry"
	"github.com/ferrule-dev/ferrule/plugins/registry/sourcetest"
)

// nginx serves a folder, with a password, and with gzip for what is text, and returns the address. It is ended with the test.
func nginx(t *testing.T, dir string) string {
	t.Helper()
	program, err := exec.LookPath("nginx")
	if err != nil {
		program = "/usr/sbin/nginx" // where a user has not got it in PATH
		if _, err := os.Stat(program); err != nil {
			if os.Getenv("CI") != "" {
				t.Fatal("nginx is missing: apt-get install nginx-light")
			}
			t.Skip("nginx is missing: apt-get install nginx-light")
		}
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	address := l.Addr().String()
	require.NoError(t, l.Close())
	own := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(own, "users"), []byte("u:{PLAIN}p\n"), 0o644))
	user := ""
	if os.Getuid() == 0 { // its workers would be another user, who may not read the folder
		user = "user root;"
	}
	conf := fmt.Sprintf(`daemon off; %[1]s worker_processes 1; pid %[2]s/pid; error_log %[2]s/error.log;
events { worker_connections 64; }
http {
	access_log off; default_type application/octet-stream; types { application/json json; text/html html; }
	client_body_temp_path %[2]s/a; proxy_temp_path %[2]s/b; fastcgi_temp_path %[2]s/c; uwsgi_temp_path %[2]s/d; scgi_temp_path %[2]s/e;
	gzip on; gzip_min_length 1; gzip_types application/json application/octet-stream;
	server {
		listen %[3]s; root %[4]s;
		auth_basic "releases"; auth_basic_user_file %[2]s/users;
		location /moved/ { return 302 http://%[3]s/releases$request_uri; }
		location /releases/moved/ { alias %[4]s/; }
	}
}
`, user, own, address, dir)
	path := filepath.Join(own, "nginx.conf")
	require.NoError(t, os.WriteFile(path, []byte(conf), 0o644))
	cmd := exec.Command(program, "-p", own, "-e", filepath.Join(own, "error.log"), "-c", path)
	cmd.Stderr = os.Stderr
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		cmd.Process.Signal(os.Interrupt) // its worker ends with it, as it would not by Kill
		cmd.Wait()
	})
	require.Eventually(t, func() bool {
		resp, err := http.Get("http://" + address + "/")
		if err != nil {
			return false
		}
		resp.Body.Close()
		return resp.StatusCode == http.StatusUnauthorized
	}, time.Minute, 20*time.Millisecond, "nginx does not answer")
	return "http://u:p@" + address
}

// A real web server: the folder as it was pushed, behind a redirect.
func TestNginx(t *testing.T) {
	t.Parallel()
	sourcetest.Run(t, func(t *testing.T, releases []sourcetest.Published) registry.Source {
		address := nginx(t, folder(t, releases))
		r := hurried(t, address+"/moved/{tag}")
		require.False(t, strings.Contains(r.String(), "u:p"))
		return r
	})
}
