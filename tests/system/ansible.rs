//! The Ansible collection: its lint, and two sides of two servers each, set up as
//! `docs/howto/many-servers.md` says, then pushed to and promoted over real ssh and behind a real HAProxy.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;

use crate::lab::Lab;
use crate::machine::{Machine, Ran};
use crate::package;
use crate::skip::skip;

const CLONE: &str = env!("CARGO_MANIFEST_DIR");

/// The servers in the inventory of `docs/howto/many-servers.md`.
const SERVERS: [&str; 4] = ["blue-1", "blue-2", "green-1", "green-2"];

/// The collection, installed for this test only, and Ansible's programs as `tests/run` installs them.
struct Collection {
    folder: TempDir,
    programs: PathBuf,
}

impl Collection {
    fn install() -> Option<Self> {
        let programs = Path::new(CLONE).join("target/python/bin");
        if !programs.join("ansible-playbook").exists() || !programs.join("ansible-lint").exists() {
            skip("`ansible-core` and `ansible-lint` are not installed in target/python");
            return None;
        }
        let collection = Self { folder: tempfile::tempdir().unwrap(), programs };
        let build = "ansible-galaxy collection build \"$1\" --output-path . && \
            ansible-galaxy collection install --offline -p collections ./bluegreen-server-*.tar.gz";
        let output = collection.run(Command::new("sh").args(["-ec", build, "sh"]).arg(source()));
        assert!(output.status.success(), "{output:?}");
        Some(collection)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Runs a command in the folder, isolated from this machine's settings.
    fn run(&self, command: &mut Command) -> Output {
        command
            .current_dir(self.folder.path())
            .env("PATH", format!("{}:/usr/bin:/bin:/usr/sbin:/sbin", self.programs.display()))
            .env("HOME", self.folder.path())
            .env("ANSIBLE_COLLECTIONS_PATH", self.path("collections"))
            .output()
            .unwrap()
    }
}

fn source() -> PathBuf {
    Path::new(CLONE).join("packaging/ansible")
}

#[test]
fn the_collection_passes_the_strictest_lint() {
    let Some(collection) = Collection::install() else { return };
    let copied = Command::new("cp").arg("-a").arg(source()).arg(collection.path("source")).status();
    assert!(copied.unwrap().success());
    let mut lint = Command::new("ansible-lint");
    let lint = lint.args(["--nocolor", "--offline", "--profile", "production", "--project-dir", "source"]);
    let output = collection.run(lint.arg("source"));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        output.status.success() && said.contains("'production' was required, and it passed"),
        "{output:?}"
    );
}

/// Returns the code block of `docs/howto/many-servers.md` that begins with this line.
fn example(first: &str) -> String {
    let page = std::fs::read_to_string(Path::new(CLONE).join("docs/howto/many-servers.md")).unwrap();
    let start =
        page.find(&format!("\n{first}\n")).unwrap_or_else(|| panic!("no code block begins with {first}"));
    let block = &page[start + 1..];
    block[..block.find("```").unwrap()].to_owned()
}

/// The machine of an administrator and developer, with the fleet of `docs/howto/many-servers.md`.
struct Fleet {
    admin: Machine,
    servers: Vec<Machine>,
    collection: Collection,
}

impl Fleet {
    fn new(lab: &Lab) -> Option<Self> {
        let collection = Collection::install()?;
        let package = package::build()?;
        let admin = lab.client("admin");
        let servers: Vec<Machine> = SERVERS.iter().map(|name| lab.server(name)).collect();
        let key = admin.public_key("id_ed25519");
        for server in &servers {
            server.write("/home/admin/.ssh/authorized_keys", &key);
            server
                .sh("rm -rf /root/bluegreen; useradd admin; chown -R admin /home/admin; chmod 700 /home/admin/.ssh
                    echo 'admin ALL=(ALL) NOPASSWD: ALL' >/etc/sudoers.d/admin")
                .ok();
        }
        std::fs::copy(package.path(), collection.path("bluegreen.deb")).unwrap();
        std::fs::create_dir(collection.path("keys")).unwrap();
        let write = |name: &str, text: &str| std::fs::write(collection.path(name), text).unwrap();
        write("keys/alice.pub", &key);
        write("servers.yml", &example("# servers.yml"));
        let fleet = Self { admin, servers, collection };
        fleet.reach(&example("# hosts.ini"));
        Some(fleet)
    }

    /// Lets Ansible reach the servers of an inventory, with the key of the machine.
    fn reach(&self, inventory: &str) {
        let write = |name: &str, text: &str| std::fs::write(self.collection.path(name), text).unwrap();
        write("hosts.ini", inventory);
        write("hosts", self.admin.sh("cat /etc/hosts").ok().text());
        write("key", self.admin.sh("cat /home/dev/.ssh/id_ed25519").ok().text());
        write(
            "ssh_config",
            "IdentityFile key\nUserKnownHostsFile known_hosts\nStrictHostKeyChecking accept-new\n",
        );
        let private = Command::new("chmod").arg("600").arg(self.collection.path("key")).status();
        assert!(private.unwrap().success());
    }

    fn server(&self, name: &str) -> &Machine {
        &self.servers[SERVERS.iter().position(|server| *server == name).unwrap()]
    }

    /// Runs the playbook on the fleet's network.
    fn play(&self, arguments: &[&str]) -> Ran {
        // The inventory's host names resolve only on the fleet's network.
        let script =
            "mount --bind hosts /etc/hosts; exec ansible-playbook -i hosts.ini servers.yml \"$@\" 2>&1";
        let mut command = Command::new("nsenter");
        command.args(["-t", &self.admin.init, "-n", "unshare", "--mount", "sh", "-ec", script, "sh"]);
        command.args(arguments).env("ANSIBLE_NOCOLOR", "1").env("ANSIBLE_PIPELINING", "1");
        // Its connections must not outlive the test.
        command.env("ANSIBLE_SSH_ARGS", "-F ssh_config -o ControlMaster=auto -o ControlPersist=5s");
        Ran::new(format!("ansible-playbook {arguments:?}"), &self.collection.run(&mut command))
    }
}

impl Fleet {
    fn deploys_and_promotes(&self) {
        let dev = &self.admin;
        self.starts_front_end();
        let says = |ran: Ran, side: &str, words: &str| {
            [1, 2].iter().fold(ran, |ran, number| ran.says(&format!("{side}-{number}{words}")))
        };
        let bluegreen = |what: &str| dev.sh_as("dev", &format!("cd sample_app; bluegreen {what}"));
        says(bluegreen("push blue").ok(), "blue", "  live ");
        assert_eq!(self.responders(), ["blue-1", "blue-2"]);
        dev.commit("App v2", "two");
        says(bluegreen("push green").ok(), "green", "  live ");
        assert_eq!(dev.get("127.0.0.1"), "App v1");
        bluegreen("promote green --yes").ok().says("green is public");
        assert_eq!(self.responders(), ["green-1", "green-2"]);
        assert_eq!(dev.get("127.0.0.1"), "App v2");

        // A broken server is reported by name and holds its side back, until the role repairs it.
        bluegreen("push blue").ok();
        self.server("blue-2")
            .sh("apache2ctl stop; timeout 20 sh -c 'while curl -so /dev/null 127.0.0.1; do sleep 0.1; done'")
            .ok();
        bluegreen("promote blue --yes").ends_with_status(1).says("blue-2");
        assert_eq!(self.responders(), ["green-1", "green-2"]);
        self.play(&["--limit", "blue-2", "--diff"]).ok().says("start apache").says("changed=1 ");
        bluegreen("promote blue --yes").ok().says("blue is public");
        assert_eq!(self.responders(), ["blue-1", "blue-2"]);
    }

    /// Starts an HAProxy that balances over the servers of each side, and creates a developer's clone.
    fn starts_front_end(&self) {
        let dev = &self.admin;
        dev.bring(Path::new(env!("CARGO_BIN_EXE_bluegreen")), "/usr/local/bin/bluegreen");
        let config = std::fs::read_to_string(Path::new(CLONE).join("share/switches/haproxy.cfg")).unwrap();
        let two = |side, one, other| {
            let line = |number, address| format!("server {side}-{number} {address}:80");
            let check = "check inter 200ms fall 3 rise 1";
            format!("{} {check}\n    {}", line(1, one), line(2, other))
        };
        let config = config
            .replace("server blue 10.0.0.2:80", &two("blue", "192.0.2.21", "192.0.2.22"))
            .replace("server green 10.0.0.3:80", &two("green", "192.0.2.31", "192.0.2.32"))
            .replace("mode 660", "mode 660 user dev");
        dev.write("/etc/haproxy/haproxy.cfg", &config);
        dev.sh(
            "mkdir -p /run/haproxy; echo 'public blue' >/etc/haproxy/public.map; chown -R dev /etc/haproxy
            haproxy -D -W -S /run/haproxy-master.sock -p /run/haproxy.pid -f /etc/haproxy/haproxy.cfg",
        )
        .ok();
        dev.commit("App v1", "one");
        let public = "[public]\nurl = 'http://127.0.0.1/'\nswitch = 'haproxy'\n[check]\nhealthy = 1\nwatch = '2s'\nwithin = '5s'\n";
        dev.write("/home/dev/sample_app/.promote.toml", &(example("[sides]") + public));
    }

    /// Returns the servers that respond to visitors of the public address.
    fn responders(&self) -> Vec<String> {
        let ask = "for n in 1 2 3 4 5 6; do curl -sS -o /dev/null -D - http://127.0.0.1/ | sed -n 's/^X-Served-By: //ip'; done | tr -d '\\r' | sort -u";
        self.admin.sh(ask).ok().text().lines().map(str::to_owned).collect()
    }
}

#[test]
fn a_fleet_is_set_up_deployed_and_promoted() {
    let Some(lab) = Lab::new() else { return };
    let Some(fleet) = Fleet::new(&lab) else { return };

    // Before anything is installed, check mode reports changes and makes none.
    let first = fleet.server("blue-1");
    let before = first.written();
    fleet
        .play(&["--check", "--diff", "--limit", "blue-1"])
        .ok()
        .says("bluegreen-setup, which is not installed yet, would set up sample_app")
        .says("blue-1                     : ok=3    changed=2 ");
    assert_eq!(changed(first, &before), "");

    let each = |ran: Ran, counts: &str| {
        drop(SERVERS.iter().fold(ran.ok(), |ran, server| ran.says(&format!("{server:26} : {counts} "))));
    };
    each(fleet.play(&[]), "ok=4    changed=3");
    let before = first.written();
    each(fleet.play(&["--diff"]), "ok=4    changed=0");
    let book = example("# servers.yml");
    let other = book
        .replace("alice: ", "bob: ")
        .replace("alice.pub", "bob.pub")
        .replace("-s index.html", "-s page.html")
        .replace("    bluegreen_rep", "    bluegreen_removed_keys: [alice]\n    bluegreen_rep");
    std::fs::write(fleet.collection.path("keys/bob.pub"), fleet.admin.public_key("stranger")).unwrap();
    std::fs::write(fleet.collection.path("servers.yml"), other).unwrap();
    fleet
        .play(&["--check", "--diff", "--limit", "blue-1"])
        .ok()
        .says("would allow 1 key to push")
        .says("would write /home/deploy/sample_app/bluegreen.toml")
        .says("would remove 1 key of alice")
        .says("changed=1 ");
    assert_eq!(changed(first, &before), "");
    std::fs::write(fleet.collection.path("servers.yml"), book).unwrap();

    fleet.deploys_and_promotes();
}

#[test]
fn a_pair_and_an_application_on_a_port_are_set_up() {
    let Some(lab) = Lab::new() else { return };
    let (Some(collection), Some(package)) = (Collection::install(), package::build()) else { return };
    let admin = lab.client("admin");
    let server = lab.server("blue");
    server.write("/root/.ssh/authorized_keys", &admin.public_key("id_ed25519"));
    server.sh("chmod -R go= /root/.ssh; rm -rf /root/bluegreen").ok();
    std::fs::copy(package.path(), collection.path("bluegreen.deb")).unwrap();
    let write = |name: &str, text: &str| std::fs::write(collection.path(name), text).unwrap();
    let playbook = "- hosts: blue
  roles:
    - role: bluegreen.server.bluegreen
  vars:
    bluegreen_package: bluegreen.deb
    bluegreen_keys:
      ci: \"{{ lookup('file', 'ci.pub') }}\"
    bluegreen_roles:
      ci: read
    bluegreen_repositories:
      - pair: true
        stack: static
        web_server: nginx
        domain: shop.local
      - path: api
        site: /srv/api
        stack: node
        web_server: nginx
        port: 3000
        domain: api.local
";
    write("servers.yml", playbook);
    write("ci.pub", &admin.public_key("id_ed25519"));
    let fleet = Fleet { admin, servers: Vec::new(), collection };
    fleet.reach("[all]\nblue ansible_user=root ansible_python_interpreter=/usr/bin/python3\n");
    fleet.play(&[]).ok().says("changed=3");
    fleet.play(&["--diff"]).ok().says("changed=0");
    server
        .sh("cat /etc/bluegreen/promote.toml; grep -r PORT= /usr/local/lib/bluegreen/apps/api; ls /home/deploy")
        .ok()
        .says("url = \"http://shop.local/\"")
        .says("FIRST_PORT=3000")
        .says("api\nblue\ngreen");
    let as_ci = |command: &str| fleet.admin.sh_as("dev", &format!("ssh deploy@blue {command} -C blue"));
    as_ci("status").ok();
    as_ci("rollback").fails().says("the role `read` of this key does not include `rollback`");
    std::fs::write(fleet.collection.path("servers.yml"), playbook.replace("ci: read", "ci: promote"))
        .unwrap();
    fleet.play(&["--diff"]).ok().says("change the role of a key").says("changed=1");
    as_ci("rollback").fails().says("error: ").lacks("does not include");
    let text = playbook.replace("domain: api.local", "domain: api.invalid\n        tls: certbot");
    std::fs::write(fleet.collection.path("servers.yml"), text).unwrap();
    fleet.play(&[]).fails().says("api.invalid does not resolve, so no certificate can be requested for it");
}

/// Returns the paths written since, except for those that every login writes in its home.
fn changed(server: &Machine, before: &str) -> String {
    let ours = |line: &&str| !line.starts_with("./home/admin");
    server.changed_since(before).lines().filter(ours).collect::<Vec<_>>().join("\n")
}
