#!/usr/bin/python
# Runs bluegreen-setup, the installer in bluegreen's package, which does all the work. This module only passes
# options, and parses whether anything changed.

from __future__ import absolute_import, division, print_function

__metaclass__ = type

DOCUMENTATION = r"""
module: setup
short_description: Set up a repository and its site for blue-green deployment by git push
description:
  - Runs C(bluegreen-setup) of the package bluegreen, as root, for one repository.
  - An omitted option keeps its previous value, or takes the installer's default.
author: The bluegreen developers
options:
  user:
    type: str
    default: deploy
    description: The owner of the repository and the site.
  login_shell:
    type: bool
    default: false
    description: Give the user a shell.
  keys:
    type: dict
    default: {}
    description: The public ssh keys that may push, by owner name, one key per line.
  roles:
    type: dict
    default: {}
    description:
      - The role of each owner's keys, V(read), V(push), V(promote), or V(all), by owner name.
      - A key without a role keeps its previous role. A new key has the role V(all).
  removed_keys:
    type: list
    elements: str
    default: []
    description: Owner names whose keys are removed, or fingerprints of single keys.
  repo:
    type: str
    default: sample_app
    description: The bare repository, absolute or in the user's home.
  site:
    type: path
    description: The document root is C(current) in it.
  branch:
    type: str
    description: The branch that deploys, for a new repository.
  name:
    type: str
    description: The server's name in messages, for a new repository.
  web_server:
    type: str
    choices: [auto, apache, nginx, caddy, none]
    description: The web server that serves the site.
  stack:
    type: str
    choices: [static, php, node, python, rails]
    description: Set up a whole application of this kind.
  run:
    type: str
    description: The command that serves the application, in the release; it listens on C($SOCKET).
  worker:
    type: str
    description: The command that works in the background, for the live release only.
  port:
    type: int
    description: For a command that listens on C($PORT) instead, the first of 20 ports for its instances.
  domain:
    type: str
    description: Respond to this host name only, as one site among several.
  tls:
    type: str
    choices: [certbot]
    description: HTTPS for the domain, with a certificate that certbot requests and renews.
  pair:
    type: bool
    default: false
    description: Set up two sides and a front end at the domain. O(repo), O(site), O(name), and O(config) do not apply.
  gate:
    type: bool
    default: false
    description: A failed deployment makes the push fail.
  config:
    type: str
    description: The text of C(bluegreen.toml).
  sudo:
    type: list
    elements: str
    default: []
    description: Commands that the steps may run as root.
attributes:
  check_mode:
    support: full
    description: Runs the installer with C(--dry-run).
  diff_mode:
    support: full
    description: Shows the lines of the installer, one for each change.
"""

EXAMPLES = r"""
- name: A repository with a site of its own
  bluegreen.server.setup:
    repo: shop
    site: /srv/shop
    domain: shop.example
    keys:
      alice: "{{ lookup('file', 'keys/alice.pub') }}"
      ci: "{{ lookup('file', 'keys/ci.pub') }}"
    roles:
      ci: push
"""

RETURN = r"""
changes:
  description: What was changed, or would be in check mode, in the installer's words.
  returned: success
  type: list
  elements: str
"""

import re

from ansible.module_utils.basic import AnsibleModule

PROGRAM = "/usr/sbin/bluegreen-setup"
WITH_VALUE = ["user", "repo", "site", "branch", "name", "web_server", "domain", "stack", "run", "worker", "port", "tls"]
# The installer chooses these for each side of a pair.
OF_ONE_SIDE = ["repo", "site", "name"]
FLAGS = ["gate", "login_shell", "pair"]


def main():
    module = AnsibleModule(
        supports_check_mode=True,
        argument_spec=dict(
            user=dict(type="str", default="deploy"),
            login_shell=dict(type="bool", default=False),
            keys=dict(type="dict", default={}, no_log=False),
            roles=dict(type="dict", default={}),
            removed_keys=dict(type="list", elements="str", default=[], no_log=False),
            repo=dict(type="str", default="sample_app"),
            site=dict(type="path"),
            branch=dict(type="str"),
            name=dict(type="str"),
            web_server=dict(type="str", choices=["auto", "apache", "nginx", "caddy", "none"]),
            stack=dict(type="str", choices=["static", "php", "node", "python", "rails"]),
            run=dict(type="str"),
            worker=dict(type="str"),
            port=dict(type="int"),
            domain=dict(type="str"),
            tls=dict(type="str", choices=["certbot"]),
            pair=dict(type="bool", default=False),
            gate=dict(type="bool", default=False),
            config=dict(type="str"),
            sudo=dict(type="list", elements="str", default=[]),
        ),
    )
    both = set(module.params["keys"]) & set(module.params["removed_keys"])
    if both:
        module.fail_json(msg="%s: both in keys and in removed_keys" % ", ".join(sorted(both)))
    if module.check_mode and not module.get_bin_path(PROGRAM):
        finish(module, ["bluegreen-setup, which is not installed yet, would set up %s" % what(module.params)])
    changes = run(module, options(module.params), module.params["config"])
    for name in sorted(set(module.params["removed_keys"]) & keys(module)):
        changes += run(module, ["--user", module.params["user"], "--remove-key", name])
    finish(module, changes)


def what(params):
    return "a pair" if params["pair"] else params["repo"]


def options(params):
    """The options of the installer."""
    given = []
    for option in WITH_VALUE:
        if params[option] is not None and not (params["pair"] and option in OF_ONE_SIDE):
            given += ["--" + option.replace("_", "-"), str(params[option])]
    given += ["--" + flag.replace("_", "-") for flag in FLAGS if params[flag]]
    for name, lines in params["keys"].items():
        for key in str(lines).splitlines():
            given += ["--key", "%s=%s" % (name, key)]
    for name, role in params["roles"].items():
        given += ["--role", "%s=%s" % (name, role)]
    for rule in params["sudo"]:
        given += ["--sudo", rule]
    return given + ([] if params["config"] is None else ["--config", "-"])


def run(module, arguments, text=None):
    """Runs the installer; returns its lines about what it changed."""
    dry = ["--dry-run"] if module.check_mode else []
    status, out, err = module.run_command([PROGRAM] + arguments + dry, data=text)
    if status != 0:
        module.fail_json(msg=err.strip(), rc=status, stdout=out)
    for line in err.splitlines():
        if line.startswith("warning: "):
            module.warn(line[len("warning: "):])
    if re.search("^Nothing (had|would have) to be changed", out, re.M):
        return []
    # The rest is for interactive users.
    return re.split("^(?:This was a dry run|$)", out, maxsplit=1, flags=re.M)[0].splitlines()


def keys(module):
    """The names and the fingerprints of the keys that may push."""
    status, out, err = module.run_command([PROGRAM, "--user", module.params["user"], "--keys"])
    if status != 0:
        module.fail_json(msg=err.strip(), rc=status)
    found = re.findall(r"^(.*?) +(SHA256:\S+) ", out, re.M)
    return set(word for pair in found for word in pair)


def finish(module, changes):
    lines = "".join(line + "\n" for line in changes)
    module.exit_json(changed=bool(changes), changes=changes, diff=dict(prepared=lines))


if __name__ == "__main__":
    main()
