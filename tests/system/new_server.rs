//! From a new server to a served page, with the commands of the documentation.

use std::time::Instant;

use crate::lab::Lab;
use crate::machine::Machine;
use crate::markdown::Document;
use crate::release::Signer;

/// The address of the apt repository on the page.
pub const PUBLISHED: &str = "https://packages.example.org";

/// Returns the commands of the page that contain this word, and their block.
pub fn commands(word: &str) -> Vec<String> {
    let page = Document::read("docs/howto/install.md");
    let block = page.blocks("sh").find(|block| block.contains(word)).unwrap().to_owned();
    block.lines().map(str::to_owned).collect()
}

/// Builds a release whose apt repository `web` serves, and returns the address.
fn publish(signer: &Signer, web: &Machine) -> String {
    let address = format!("http://{}", web.address());
    let urls = format!("REPOSITORY=\nHOMEPAGE=\nDOWNLOADS=\nAPT={address}\nFINGERPRINT=\n");
    signer.write("urls", &urls);
    let release = signer.release_with("one", "--urls urls");
    web.bring_folder(&release.join("apt"), "/srv/apt", "root");
    web.sh("cd /srv/apt; python3 -m http.server 80 >/dev/null 2>&1 &").ok();
    web.sh("timeout 20 sh -c 'until curl --silent --output /dev/null localhost; do sleep 0.1; done'").ok();
    address
}

/// Runs the three commands of the page on a server, and pushes to it from `dev`. Returns the durations.
fn serve_a_page(server: &Machine, dev: &Machine, address: &str) -> String {
    server.sh("! command -v git cc cargo make apache2 nginx bluegreen").ok();
    server.write("/root/developer.pub", &dev.public_key("id_ed25519"));
    // Answers the question of apt-get.
    server.write("/etc/apt/apt.conf.d/yes", "APT::Get::Assume-Yes \"true\";\n");
    let began = Instant::now();
    let commands = commands("bluegreen.sources https");
    assert_eq!(commands.len(), 3);
    let mut durations = Vec::new();
    for command in &commands {
        let began = Instant::now();
        server.sh(&command.replace(PUBLISHED, address)).ok();
        durations.push(format!("{:.1}", began.elapsed().as_secs_f64()));
    }
    let name = server.sh("hostname").ok().text().trim().to_owned();
    dev.sh_as("dev", &format!("cp -r sample_app {name}")).ok();
    dev.sh_as("dev", &format!("cd {name}; git push deploy@{name}:sample_app master")).ok().says("is live");
    assert_eq!(dev.get(&name), "App v1");
    format!("{:.1} s; the three commands: {} s", began.elapsed().as_secs_f64(), durations.join(", "))
}

// The test prints the durations.
#[allow(clippy::print_stdout)]
#[test]
fn three_commands_lead_from_a_new_debian_12_or_13_to_a_served_page() {
    let Some(lab) = Lab::new() else { return };
    let Some(signer) = Signer::new() else { return };
    let dev = lab.client("dev");
    let address = publish(&signer, &dev);
    dev.commit("App v1", "App v1");
    std::thread::scope(|scope| {
        for (name, suite) in [("blue", "bookworm"), ("green", "trixie")] {
            let (lab, dev, address) = (&lab, &dev, &address);
            scope.spawn(move || {
                let server = lab.new_server(name, suite);
                println!("from a new {suite} to a served page: {}", serve_a_page(&server, dev, address));
                // The journal has the deployment with its fields.
                server
                    .sh("journalctl --sync; journalctl -t bluegreen BLUEGREEN_ACTION=deploy BLUEGREEN_OUTCOME=live -o json")
                    .ok()
                    .says("\"BLUEGREEN_SITE\":\"/var/www/html\"")
                    .says("\"PRIORITY\":\"6\"");
            });
        }
    });
    // The page's command prints the fingerprint of the key, here on another machine.
    dev.sh(&format!(
        "curl --silent --fail --output /etc/apt/sources.list.d/bluegreen.sources {address}/bluegreen.sources"
    ))
    .ok();
    dev.sh(&commands("gpg --show-keys")[0]).ok().says(&signer.fingerprint());
}

#[test]
fn apt_rejects_a_modified_repository() {
    let Some(lab) = Lab::new() else { return };
    let Some(signer) = Signer::new() else { return };
    let (server, web) = (lab.machine("blue"), lab.machine("lb"));
    let address = publish(&signer, &web);
    server.sh("rm -rf /etc/apt/sources.list /etc/apt/sources.list.d/* /etc/apt/apt.conf.d/*proxy*").ok();
    for command in commands("keyrings/bluegreen.gpg https") {
        server.sh(&command.replace(PUBLISHED, &address)).ok();
    }
    web.sh("cp -a /srv/apt /srv/published").ok();
    let update = |change: &str| {
        web.sh(&format!("cd /srv/apt; rm -rf *; cp -a /srv/published/. .; cd dists/stable; {change}")).ok();
        server.sh("rm -rf /var/lib/apt/lists/*; apt-get update -o APT::Update::Error-Mode=any")
    };
    // Control: the published files are accepted.
    update("").ok();
    server.sh("apt-cache policy bluegreen").ok().says(&format!("Candidate: {}-1", env!("CARGO_PKG_VERSION")));
    update("rm main/binary-*/Packages.gz; sed -i 's/^Version:.*/Version: 99/' main/binary-*/Packages")
        .fails();
    update("sed -i 's/^Label:.*/Label: other/' InRelease; rm Release.gpg").fails();
    update("rm InRelease; sed -i 's/^Label:.*/Label: other/' Release").fails();
    // A package that differs from the index is not installed.
    update("printf changed | dd of=$(ls ../../pool/*.deb) conv=notrunc seek=3 status=none").ok();
    server.sh("apt-get download bluegreen").fails().says("Hash Sum mismatch");
}
