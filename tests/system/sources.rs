//! Any source over real ssh: one folder of a repository, steps with unchanged inputs, and a folder that a build created.

use std::path::Path;

use crate::lab::Lab;

#[test]
fn one_folder_cached_steps_and_a_built_folder_are_deployed() {
    let Some(lab) = Lab::new() else { return };
    let (blue, dev) = (lab.server("blue"), lab.client("dev"));
    blue.install_for(&dev, "--web-server nginx --gate").ok();
    let step = "{ name = \"packages\", run = \"echo run >>~/runs; cp lock packages\", inputs = [\"lock\"], outputs = [\"packages\"] }";
    let edit = format!("-e 's|^\\[site\\]|&\\nsubdirectory = \"web\"|' -e 's|^#build = .*|build = {step}|'");
    blue.sh_as("deploy", &format!("sed -i {edit} sample_app/bluegreen.toml")).ok();
    dev.bring(Path::new(env!("CARGO_BIN_EXE_bluegreen")), "/usr/local/bin/bluegreen");
    let in_clone = |script: &str| dev.sh_as("dev", &format!("cd mono; {script}"));
    let commit = |change: &str| format!("{change}; git add .; git commit -qm change");

    dev.sh_as("dev", "mkdir -p mono/web mono/api; git init -q mono; echo dist >mono/.gitignore").ok();
    in_clone("git remote add blue deploy@blue:sample_app; echo 1 >web/lock").ok();
    in_clone(&commit("echo 'Web 1' >web/index.html")).ok();
    in_clone("git push blue master").ok().says("Step build: packages").says("is live: ");
    assert_eq!(dev.get("blue"), "Web 1");

    // A change of another folder deploys nothing, and the branch moves.
    in_clone(&commit("echo 1 >api/main.c")).ok();
    in_clone("git push blue master").ok().says("does not change `web`").lacks("is live: ");
    // The step is skipped until its input changes, or with `no-cache`.
    in_clone(&commit("echo 'Web 2' >web/index.html")).ok();
    in_clone("git push blue master").ok().says("Step packages: unchanged since ").says("is live: ");
    assert_eq!(dev.get("blue"), "Web 2");
    in_clone(&commit("echo 'Web 3' >web/index.html")).ok();
    in_clone("git push -o no-cache blue master").ok().says("Step build: packages");
    blue.sh("wc -l </home/deploy/runs; cat /var/www/html/current/packages").ok().says("2\n1\n");

    // A build creates the deployed folder, which git ignores.
    in_clone("mkdir -p dist/web; echo 'Built' >dist/web/index.html; echo 1 >dist/web/lock").ok();
    in_clone("bluegreen push blue --from dist").ok().says("  live ");
    assert_eq!(dev.get("blue"), "Built");
    in_clone("git status --porcelain; git log --format=%s").ok().lacks("built from").lacks("?? ");
    dev.sh_as("dev", "ssh deploy@blue rollback").ok();
    assert_eq!(dev.get("blue"), "Web 3");
}
