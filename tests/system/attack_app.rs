//! Attempts by the deploy user on root through the units of an application, which systemd starts as root.

use crate::lab::Lab;
use crate::machine::Machine;

/// An application that responds with its environment.
const SERVER: &str = r#"import http.server, os, socketserver

class Handler(http.server.BaseHTTPRequestHandler):
    def address_string(self):
        return "unix"

    def do_GET(self):
        body = "".join(f"{name}={value}\n" for name, value in os.environ.items()).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

os.umask(7)
socketserver.UnixStreamServer(os.environ["SOCKET"], Handler).serve_forever()
"#;

const CONFIG: &str = "server = 'blue'\n[site]\nroot = '/var/www/html'\n[app]\nhealth = '/'\nwithin = '5s'\n";

/// Settings in every form that systemd parses.
const SETTINGS: &str = r#"# A comment \
T_COMMENT=in the comment
; Another one
T_PLAIN=a b=c $HOME `id` # no comment
  T_SPACES =  outer 	
T_DOUBLE="two \\ $x \" \$y \q \` `id`"
T_SINGLE='th"r\ee
T_lines'
T_MIX="a"'b' "c" d
1T_BAD=x
T BAD=x
no assignment
export T_EXPORT=1
T_EMPTY=
T_QUOTED=""
T_CONTINUED=one \
two
T_ESCAPED=a\ b\\c\ 
T_QUOTE='it'\''s'
T_TAIL=don't
T_SHELL=';reboot;$(reboot)'
PORT=1
SOCKET=/tmp/x
T_LAST=without a line end  "#;

/// Prints the variables of the test.
const PRINT: &str = "import os; print(*(f'{name}={value}' for name, value in os.environ.items() if name[:2] == 'T_'), sep='\\n')";

const CONTROL: &str = "/usr/local/lib/bluegreen/apps/sample_app";

fn environment(blue: &Machine) -> String {
    let request = "curl -sS --max-time 5 --unix-socket /var/www/html/current/.app.sock http://localhost/";
    blue.sh(request).ok().text().to_owned()
}

/// systemd would read the application's settings as root: through a symlink, root's own files, and from a FIFO forever.
#[test]
fn the_settings_of_an_application_are_not_read_as_root() {
    let Some(lab) = Lab::new() else { return };
    let blue = lab.booted_with("blue", include_str!("stack-packages"));
    let dev = lab.client("dev");
    blue.write("/root/config.toml", CONFIG);
    blue.write("/root/secret", "TOKEN=canary-7d10c4\n");
    blue.sh("chmod 600 /root/secret; chmod 755 /root").ok();
    let options =
        "--stack python --run 'python3 server.py' --web-server none --config /root/config.toml --gate";
    blue.install_for(&dev, options).ok();
    dev.commit("one", "First page");
    dev.write("/home/dev/sample_app/server.py", SERVER);
    dev.sh_as("dev", "cd sample_app; git add -A; git commit -qm 'Add the application'").ok();

    blue.write("/root/settings", SETTINGS);
    blue.sh("install -o deploy -m 640 -g app-sample_app /root/settings /var/www/html/shared/.env").ok();
    dev.push("deploy@blue:sample_app master").ok().says("is live: ");
    let by_systemd = blue.sh(&format!(
        "systemd-run --quiet --wait --pipe -p EnvironmentFile=/root/settings python3 -c \"{PRINT}\""
    ));
    let (expected, shown) = (by_systemd.ok(), environment(&blue));
    let variables = |text: &str| {
        let mut lines: Vec<String> =
            text.lines().filter(|line| line.starts_with("T_")).map(str::to_owned).collect();
        lines.sort_unstable();
        lines
    };
    assert_eq!(variables(&shown), variables(expected.text()));
    assert!(variables(&shown).len() > 12 && shown.contains("T_SHELL=;reboot;$(reboot)\n"), "{shown}");
    // The socket is the instance's own.
    assert!(shown.contains("PORT=1\n") && shown.contains("SOCKET=/run/bluegreen/sample_app/"), "{shown}");

    for plant in ["ln -s /root/secret .env", "mkfifo .env; chmod 666 .env", "ln -s /dev/zero .env"] {
        blue.sh_as("deploy", &format!("cd /var/www/html/shared; rm .env; {plant}")).ok();
        dev.commit(plant, "Another page");
        dev.push("deploy@blue:sample_app master").fails().lacks("canary");
        // systemd still responds, and what runs has the settings from before.
        blue.sh(&format!("timeout 10 systemctl is-system-running; timeout 10 {CONTROL} status"))
            .either_way()
            .says(" active");
        let shown = environment(&blue);
        assert!(shown.contains("T_PLAIN=") && !shown.contains("canary"), "{plant}: {shown}");
        blue.sh("! journalctl --no-pager | grep -F canary").ok();
    }
    blue.sh_as("deploy", "cd /var/www/html/shared; rm .env; printf 'T_PLAIN=again\\ncommand=false\\nwords=x\\nOPTIND=x\\n' >.env").ok();
    dev.push("deploy@blue:sample_app master").ok().says("is live: ");
    assert!(environment(&blue).contains("T_PLAIN=again\n"));
}
