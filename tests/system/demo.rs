//! The demonstration, run by a user who has just cloned the project.

use crate::lab::Lab;

#[test]
fn the_demonstration_completes_and_cleans_up() {
    let Some(lab) = Lab::new() else { return };
    let laptop = lab.server("laptop");
    // A stand-in for cargo, which copies the program instead of building it.
    laptop.write(
        "/home/ann/.cargo/bin/cargo",
        "#!/bin/sh\nmkdir -p target/demo && cp /srv/program target/demo/bluegreen\n",
    );
    // Settings for signing commits and running global hooks must have no effect.
    laptop.write(
        "/home/ann/.gitconfig",
        "[commit]\ngpgSign = true\n[core]\nhooksPath = /none\n[push]\ndefault = nothing\n",
    );
    laptop
        .sh("useradd ann; cp /root/bluegreen/program /srv/program; cp -r /root/bluegreen /home/ann/clone
             touch /home/ann/clone/Cargo.toml; chmod 755 /home/ann/.cargo/bin/cargo; chown -R ann: /home/ann")
        .ok();
    let demo = "PATH=~/.cargo/bin:$PATH GIT_DIR=/none clone/install.sh --demo";
    laptop
        .sh_as("ann", demo)
        .ok()
        .says("$ git push blue master\nremote: Master ref received.  Deploying master branch to blue...\n")
        .says("; blue serves App v1; green serves App v1\n")
        .says("; blue serves App v2; green serves App v1\n")
        .says("remote: error: symlink `passwd` points outside the release, to `/etc/passwd`\n")
        .says("remote: Not deployed: blue still serves ")
        .says("is live again, instead of ")
        .says("$ bluegreen promote blue --yes\ngreen ")
        .says("blue is public instead of green: ")
        .says("; visitors get App v3\n")
        .says("green is public instead of blue: ")
        .says("; visitors get App v1\n")
        .says(" requests, 0 failed: ")
        .says(" times App v1, ")
        .says("The demonstration has removed ");
    laptop.sh("ls -A /tmp; ls -A /home/ann").ok().lacks("tmp.").says(".gitconfig\nclone\n");

    // It cleans up when interrupted.
    laptop.sh_as("ann", &format!("timeout -s INT 0.3 sh -c '{demo}' || :; sleep 0.5")).ok();
    laptop.sh("ls -A /tmp").ok().lacks("tmp.");
    laptop.sh("ps -eo args").ok().lacks("demo.pl");
    // It builds from the clone, and reports an incomplete one.
    laptop.sh("rm /home/ann/clone/Cargo.toml").ok();
    laptop.sh_as("ann", demo).ends_with_status(1).says("needs a complete clone");
}

#[test]
fn all_missing_build_dependencies_are_reported_together() {
    let Some(lab) = Lab::new() else { return };
    let laptop = lab.server("laptop");
    laptop
        .sh("useradd -m ann; cp -r /root/bluegreen /home/ann/clone
             echo 'rust-version = \"1.89\"' >/home/ann/clone/Cargo.toml; chown -R ann: /home/ann
             rm -rf /usr/local/bin/git /usr/bin/git /usr/bin/cc /usr/local/bin/cc")
        .ok();
    laptop.write("/home/ann/.cargo/bin/cargo", "#!/bin/sh\necho cargo 1.999.0\n");
    laptop.sh("chmod -R a+rx /home/ann/.cargo").ok();
    laptop
        .sh_as("ann", "clone/install.sh --demo")
        .ends_with_status(1)
        .says("error: demo: build tools are missing: git gcc libc6-dev\n")
        .says("hint: sudo apt-get install -y git gcc libc6-dev\n");
    // Without Rust, the hint's command also installs Rust, from a source that this distribution has.
    laptop.sh("rm -rf /home/ann/.cargo /usr/bin/cargo /usr/bin/curl /usr/local/bin/curl").ok();
    let curl = " && curl https://sh.rustup.rs -sSf | sh";
    for (cargo, web, rustup, packages, rest) in [
        ("0.66.0+ds1-1", "(none)", "(none)", "git gcc libc6-dev curl", curl),
        ("1.85.0-1", "1.85.0-1", "1.27.1-3", "git gcc libc6-dev curl rustup", " && rustup default stable"),
        ("1.85.0-1", "1.96.0+dfsg1-1", "1.27.1-3", "git gcc libc6-dev curl cargo-web", ""),
        ("1.90.0-1", "1.96.0+dfsg1-1", "1.27.1-3", "git gcc libc6-dev curl cargo", ""),
    ] {
        laptop.write(
            "/usr/bin/apt-cache",
            &format!(
                "#!/bin/sh\ncase $2 in cargo) v='{cargo}' ;; cargo-web) v='{web}' ;; rustup) v='{rustup}' ;; esac
                echo \"  Candidate: $v\"\n"
            ),
        );
        laptop
            .sh_as("ann", "clone/install.sh --demo")
            .ends_with_status(1)
            .says(&format!("are missing: {packages}, for Rust 1.89 or newer\n"))
            .says(&format!("hint: sudo apt-get install -y {packages}{rest}\n"));
    }
    // On a terminal, root is asked first.
    laptop
        .sh("HOME=/home/ann script -qec /home/ann/clone/demo.sh /dev/null <<'E'\nn\nE")
        .ends_with_status(1)
        .says("Go on? [Y/n] ")
        .says("error: demo: nothing was installed");
    // Without a terminal, root gets a command to run, which fails here because the machine has no network.
    laptop.sh("echo 'Acquire::Retries 0;' >/etc/apt/apt.conf.d/99-no-retries; : >/etc/resolv.conf; rm -rf /var/cache/apt/archives").ok();
    laptop
        .sh("HOME=/home/ann /home/ann/clone/demo.sh")
        .ends_with_status(1)
        .says("Installing by apt-get what is missing: git gcc libc6-dev curl cargo\n")
        .says("error: demo: could not install git gcc libc6-dev curl cargo\n");
}
