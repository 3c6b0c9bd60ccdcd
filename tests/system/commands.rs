//! An administrator's commands on a server that the installer set up.

use crate::lab::Lab;

#[test]
fn root_needs_no_option_on_a_server_with_one_repository() {
    let Some(lab) = Lab::new() else { return };
    let blue = lab.server("blue");
    blue.sh("cd /; /root/bluegreen/program status").fails().says("no repository found");
    blue.install("--web-server none").ok();
    blue.sh("cd /; bluegreen status").ok().says("/var/www/html");
    // Also in the clone from which it was installed, and in the repository itself.
    blue.sh("git init --quiet clone; cd clone; bluegreen status").ok().says("/var/www/html");
    blue.sh("cd /home/deploy/sample_app; bluegreen status").ok().says("/var/www/html");
    blue.sh_as("deploy", "bluegreen-shell -c \"git-receive-pack 'other_app'\"")
        .ends_with_status(2)
        .says("error: unknown repository `other_app`\nhint: name one of sample_app\n");
    // A killed installer leaves a temporary file, and possibly a truncated ledger.
    blue.sh("cd /var/lib/bluegreen/repositories
        for ledger in *; do cp \"$ledger\" \".$ledger.bluegreen-new\"; done
        printf 'user deploy\\n' >half
        cd ../accounts; echo /srv/other | cat deploy - >.deploy.bluegreen-new")
        .ok();
    blue.sh("cd /; bluegreen status").ok().says("/var/www/html");
    blue.sh_as("deploy", "cd /; bluegreen-shell -c status").ok().says("/var/www/html");

    blue.install("--repo two --site /srv/two --domain two.example --web-server none").ok();
    blue.sh("cd /; bluegreen status")
        .ends_with_status(2)
        .says("error: this server has several repositories: name one with `-C`")
        .says("`bluegreen -C /home/deploy/sample_app status` or `bluegreen -C /home/deploy/two status`");
    blue.sh("cd /home/deploy/two; bluegreen status").ok().says("/srv/two");
}
