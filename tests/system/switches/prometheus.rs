//! The `[watch] run` check that queries a real Prometheus.

use std::path::Path;

use crate::lab::Lab;
use crate::machine::Machine;

/// Starts a Prometheus that scrapes a page every second. Skips the test if it is not installed.
fn machine(lab: &Lab) -> Option<Machine> {
    let front = super::front(lab, &["prometheus", "jq"])?;
    front.bring(&Path::new(env!("CARGO_MANIFEST_DIR")).join("share/checks/prometheus"), "/test/check");
    front.write(
        "/test/prometheus.yml",
        "global: { scrape_interval: 1s }\nscrape_configs: [{ job_name: app, static_configs: [{ targets: ['127.0.0.1:9101'] }] }]\n",
    );
    front
        .sh("mkdir -p /tmp/app; cd /tmp/app; echo 'error_ratio 0.5' >metrics
            setsid python3 -m http.server --bind 127.0.0.1 9101 </dev/null >/tmp/app.log 2>&1 &
            setsid prometheus --config.file=/test/prometheus.yml --storage.tsdb.path=/tmp/tsdb \
                --web.listen-address=127.0.0.1:9090 </dev/null >/tmp/prometheus.log 2>&1 &
            for _ in $(seq 300); do
                /test/check http://127.0.0.1:9090 1 error_ratio >/dev/null 2>&1 && exit
                sleep 0.1
            done
            cat /tmp/prometheus.log; exit 1")
        .ok();
    Some(front)
}

#[test]
fn a_prometheus_query_decides() {
    let Some(lab) = Lab::new() else { return };
    let Some(front) = machine(&lab) else { return };
    let check =
        |max: &str, query: &str| front.sh(&format!("/test/check http://127.0.0.1:9090 {max} '{query}'"));
    check("0.5", "error_ratio").ok();
    check("0.6", "max(error_ratio)").ok();
    check("1", "scalar(error_ratio)").ok();
    check("0.01", "error_ratio").fails().says("error: the query returns 0.5, the limit is 0.01");
    check("1", "error_ratio or vector(7)").fails().says("error: the query returns 7, the limit is 1");
    check("1", "error_ratio / 0").fails().says("the limit is 1");
    // A query without a value must fail.
    check("1", "eror_ratio").fails().says("error: the query returns no data");
    check("1", "0 * error_ratio / 0").fails().says("error: the query returns no data");
    check("1", "error_ratio[").fails().says("error: Prometheus rejects the query: ");
    check("-1", "error_ratio").fails().says("error: invalid limit: `-1`");
    front
        .sh("/test/check http://127.0.0.1:9101 1 error_ratio")
        .fails()
        .says("does not respond like Prometheus");
    front.sh("/test/check http://127.0.0.1:9 1 error_ratio").fails().says("cannot reach Prometheus");
}
