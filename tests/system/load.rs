//! Deployments under load: the only change that visitors observe is the new version.

use crate::lab::Lab;

const PUSHES: usize = 50;

#[test]
fn fifty_pushes_under_load_cause_no_failed_request_and_no_mixed_release() {
    let Some(lab) = Lab::new() else { return };
    let blue = lab.server("blue");
    let dev = lab.client("dev");
    blue.install_for(&dev, "--web-server nginx").ok();
    // Twenty files that all contain the version, and all change in every push.
    dev.sh_as("dev", "git init -q sample_app; cd sample_app; git remote add blue deploy@blue:sample_app")
        .ok();
    let commit = |version: usize| {
        dev.sh_as(
            "dev",
            &format!(
                "cd sample_app; for n in $(seq 20); do mkdir -p d$((n % 4)); echo {version} >d$((n % 4))/f$n; done
                yes 'version {version}' | head -n 2000 >index.html; git add -A; git commit -qm {version}"
            ),
        )
        .ok();
    };
    commit(0);
    dev.push("blue master").ok();

    let load = dev.start(
        "root",
        "exec timeout -s INT 150 nice wrk -t 1 -c 2 -d 140s http://blue/index.html & echo $! >/tmp/wrk; wait || :",
    );
    // A visitor's page with two versions would prove a mixed release.
    let pages = dev.start(
        "root",
        "n=0; while [ ! -e /tmp/stop ] && [ $n -lt 5000 ]; do n=$((n + 1))
            curl -sS -f --max-time 5 http://blue/index.html >/tmp/page || echo failed
            [ \"$(sort -u /tmp/page | wc -l) $(wc -l </tmp/page)\" = '1 2000' ] || echo mixed page
            sleep 0.02
        done; echo $n",
    );
    let files = blue.start(
        "root",
        "n=0; while [ ! -e /tmp/stop ] && [ $n -lt 20000 ]; do n=$((n + 1))
            cd -P /var/www/html/current; set -- $(cat d*/f* | sort | uniq -c); [ \"$1 $#\" = '20 2' ] || echo \"mixed release: $*\"
            sleep 0.02
        done; echo $n",
    );
    for version in 1..=PUSHES {
        commit(version);
        dev.push("blue master").ok().says("is live: 21 files changed");
        dev.sh("curl -sS http://blue/d1/f1").ok().says(&format!("{version}\n"));
    }
    dev.sh("touch /tmp/stop; kill -INT $(cat /tmp/wrk)").ok();
    blue.sh("touch /tmp/stop").ok();

    for reader in [pages, files] {
        let seen = reader.finish();
        let reads: usize = seen.trim().parse().unwrap_or_else(|_| panic!("{seen}"));
        assert!(reads > PUSHES, "too few requests for a steady load: {reads}");
    }
    let report = load.finish();
    assert!(report.contains("requests in"), "{report}");
    assert!(!report.contains("Non-2xx") && !report.contains("Socket errors"), "{report}");
}
