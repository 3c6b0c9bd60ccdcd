# Converts the lines "CRATE vVERSION (PATH)|LICENSE" from `cargo tree` into an SPDX 2.3 list of the program's
# components: every crate that is linked or used in the build, and the C code in one of them. The first line
# is the program itself. $created is the creation time in the list, and $system the
# suffix of its name.

# C code, by the crate that contains it.
{"libdeflate-sys": {name: "libdeflate", license: "MIT"}} as $bundled

| def package(license): {
    SPDXID: ("SPDXRef-" + (.name + "-" + .version | gsub("[^A-Za-z0-9.-]"; "-"))),
    name: .name,
    versionInfo: .version,
    downloadLocation: "NOASSERTION",
    filesAnalyzed: false,
    licenseConcluded: "NOASSERTION",
    licenseDeclared: license,
    copyrightText: "NOASSERTION"
};

def crate:
    # Older crates write "MIT/Apache-2.0".
    package(.license | gsub(" */ *"; " OR ") | if . == "" then "NOASSERTION" else . end)
    + {externalRefs: [{referenceCategory: "PACKAGE-MANAGER", referenceType: "purl",
        referenceLocator: "pkg:cargo/\(.name)@\(.version)"}]};

def relation($from; $type; $to): {spdxElementId: $from, relationshipType: $type, relatedSpdxElement: $to};

[inputs | capture("^(?<name>[^ ]+) v(?<version>[^ |]+)[^|]*[|](?<license>.*)$")] as $lines
| ($lines | unique_by(.name, .version)) as $crates
| ($lines[0] | crate) as $program
| [$crates[] | select($bundled[.name]) | {
    in: crate.SPDXID,
    c: (. as {$name, $version} | $bundled[.name] | .version = "as-in-" + $name + "-" + $version | package(.license))
}] as $c
| {
    spdxVersion: "SPDX-2.3",
    dataLicense: "CC0-1.0",
    SPDXID: "SPDXRef-DOCUMENT",
    name: ($lines[0] | .name + "-" + .version + $system),
    documentNamespace: ($lines[0] | "https://spdx.org/spdxdocs/" + .name + "-" + .version + $system),
    creationInfo: {created: $created, creators: ["Tool: packaging/spdx.jq"]},
    packages: ([$crates[] | crate] + [$c[].c]),
    relationships: (
        [relation("SPDXRef-DOCUMENT"; "DESCRIBES"; $program.SPDXID)]
        + [$crates[] | crate.SPDXID | select(. != $program.SPDXID) | relation($program.SPDXID; "CONTAINS"; .)]
        + [$c[] | relation(.in; "CONTAINS"; .c.SPDXID)]
    )
}
