# Copyright (c) 2026, the dsr.layer2 authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who is compared: each peer knows how it is brought to serve a scene on a load balancer."""

from __future__ import annotations

import json
import re
import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lab import Host, Lab, LabError

from .site import PORT, Scene, Site

# Seconds that a load may take before a peer is left out of a scene.
_PATIENCE = 90.0


class Unavailable(Exception):
    """This peer can't be measured here, or not in this scene; the text says why."""


class Peer:
    """One way to bring packets to backends. ``key`` names it on the command line, ``title`` in tables."""

    tracks = False  # whether it remembers flows
    ours = False
    spreads = True  # over the backends
    direct = False  # no load balancer: frames are addressed to a backend

    def __init__(self, key: str, title: str) -> None:
        self.key = key
        self.title = title

    def serve(self, site: Site, name: str, host: Host, scene: Scene) -> None:
        """Configure the load balancer. Unavailable where that can't be."""

    def listing(self, site: Site, name: str) -> str:
        """What it runs, for people."""
        return site.lab.run(name, ["nft", "-t", "list", "ruleset"]).stdout


class Direct(Peer):
    """The client's frames go straight to a backend: the bridge alone."""

    direct = True
    spreads = False


def _load(site: Site, name: str, text: str, timeout: float = 300.0) -> None:
    site.lab.run(name, ["nft", "-f", "-"], input=text, timeout=timeout)


class ConstantRewrite(Peer):
    """One rule that writes two constant MAC addresses: what nftables costs without any choice."""

    spreads = False

    def serve(self, site: Site, name: str, host: Host, scene: Scene) -> None:
        field = "ip daddr" if scene.family == 4 else "ip6 daddr"
        last = scene.vip(scene.vips - 1)
        wanted = scene.vip(0) if scene.vips == 1 else f"{scene.vip(0)}-{last}"
        _load(
            site,
            name,
            "table netdev rewrite {\n chain ingress {\n  type filter hook ingress device eth0 priority 0;\n"
            f"  {field} {wanted} ether daddr set {scene.mac(0)} ether saddr set {host.mac} fwd to eth0\n"
            " }\n}\n",
        )


class TcBpf(Peer):
    """The same by a BPF program at the same place: about the least that this kernel can do."""

    spreads = False

    def serve(self, site: Site, name: str, host: Host, scene: Scene) -> None:
        if shutil.which("tc") is None:
            raise Unavailable("no tc here (package iproute2)")
        links = site.lab.run(name, ["ip", "-json", "link", "show", "eth0"]).json()
        program = site.tools.mac_rewrite(scene.mac(0), host.mac, links[0]["ifindex"])
        if program is None:
            raise Unavailable("no clang here (package clang)")
        try:
            site.lab.run(name, ["tc", "qdisc", "add", "dev", "eth0", "clsact"])
            attach = ["bpf", "direct-action", "object-file", str(program), "section", "classifier"]
            site.lab.run(name, ["tc", "filter", "add", "dev", "eth0", "ingress", *attach])
        except LabError as error:
            raise Unavailable(f"tc does not take the BPF program: {error}") from None


class Nftlb(Peer):
    """nftlb, as Debian packages it."""

    def __init__(self, key: str, title: str, options: Mapping[str, str], most_vips: int = 100) -> None:
        super().__init__(key, title)
        self.options = options
        self.tracks = "persistence" in options
        self.most_vips = most_vips

    def farm(self, scene: Scene, number: int, first_backend: int = 0) -> dict[str, Any]:
        """One VIP in its words."""
        return {
            "name": f"lb{number:05d}",
            "family": f"ipv{scene.family}",
            "virtual-addr": scene.vip(number),
            "virtual-ports": str(PORT),
            "mode": "dsr",
            "protocol": scene.protocol,
            "state": "up",
            **self.options,
            "backends": [
                {
                    "name": f"b{index}",
                    "ip-addr": scene.backend(first_backend + index),
                    "weight": "1",
                    "priority": "1",
                    "state": "up",
                }
                for index in range(scene.backends)
            ],
        }

    def prepare(self, lab: Lab, name: str, scene: Scene, vips: int, backends: int) -> None:
        """What it needs: it finds its NIC by the VIP's address on it, and serves nobody where the neighbour cache,
        from which it takes MAC addresses, is cold."""
        nodad = " nodad" if scene.family == 6 else ""
        lab.ip(
            name,
            *(f"address add {scene.vip(number)} dev eth0{nodad}" for number in range(vips)),
            *(
                f"neighbour replace {scene.backend(number)} lladdr {scene.mac(number)} nud permanent dev eth0"
                for number in range(backends)
            ),
        )

    def serve(self, site: Site, name: str, host: Host, scene: Scene) -> None:
        if shutil.which("nftlb") is None:
            raise Unavailable("no nftlb here (package nftlb)")
        if scene.vips > self.most_vips:
            raise Unavailable(f"nftlb takes too long to load more than {self.most_vips} VIPs")
        self.prepare(site.lab, name, scene, scene.vips, scene.backends)
        farms = [self.farm(scene, number) for number in range(scene.vips)]
        site.lab.write(name, "/etc/nftlb.json", json.dumps({"farms": farms}))
        try:
            site.lab.run(name, ["nftlb", "-c", "/etc/nftlb.json", "-e"], timeout=_PATIENCE)
        except LabError as error:
            raise Unavailable(f"nftlb failed: {str(error).splitlines()[-1][-120:]}") from None
        if "nftlb" not in self.listing(site, name):
            raise Unavailable("nftlb loaded no rules")


class Ours(Peer):
    """This collection's module."""

    ours = True

    def __init__(self, key: str, title: str, **options: Any) -> None:
        super().__init__(key, title)
        self.drain = options.pop("drain", False)
        self._ruleset = ""
        self.options = options
        self.tracks = self.drain or not options["scheduler"].endswith("_hash") or "persistence_timeout" in options

    def vip(self, scene: Scene, number: int, first_backend: int = 0) -> dict[str, Any]:
        backends: list[dict[str, Any]] = [
            {"address": scene.backend(first_backend + index), "mac": scene.mac(first_backend + index)}
            for index in range(scene.backends)
        ]
        if self.drain:
            backends[0]["state"] = "drain"
        if self.options["scheduler"] == "weighted_round_robin":
            for index, backend in enumerate(backends):
                backend["weight"] = 1 + index % 3
        return {
            "name": f"vip{number}",
            "address": scene.vip(number),
            "protocol": scene.protocol,
            "ports": [str(PORT)],
            "backends": backends,
            **self.options,
        }

    def serve(self, site: Site, name: str, host: Host, scene: Scene) -> None:
        from ansible_collections.dsr.layer2.plugins.module_utils.nft_dsr import model

        unknown = set(self.options) - set(model.VIP_OPTIONS)
        if unknown:
            raise Unavailable(f"the module has no option {' or '.join(sorted(unknown))} yet")
        vips = [self.vip(scene, number) for number in range(scene.vips)]
        begun = time.monotonic()
        try:
            result = site.runner.run(site.lab, name, "nft_dsr_vips", {"vips": vips, "purge": True}, timeout=_PATIENCE)
        except LabError:
            if time.monotonic() - begun < _PATIENCE:
                raise
            raise Unavailable(f"the module was not done within {_PATIENCE:g} s") from None
        if result.get("failed"):
            raise Unavailable(f"the module failed: {result.get('msg')}")
        ruleset = str(result["ruleset"]).replace(host.mac, "LB_MAC")
        self._ruleset = ruleset.replace(host.mac.replace(":", ""), "LB_HEX")

    def listing(self, site: Site, name: str) -> str:
        return self._ruleset


class Ruleset(Peer):
    """Any file for `nft -f`. These words in it are replaced, so that one file serves every scene:

    LB_MAC            the load balancer's own MAC address; LB_HEX the same without colons
    VIP_0, VIP_1 ...  addresses of VIPs; PORT their port; PROTOCOL tcp or udp
    BACKENDS, VIPS    how many there are
    BACKEND_0, ...    addresses of backends; BACKEND_MARK_0, ... the same as a number
    BACKEND_MAC_0 ... their MAC addresses
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path.stem, path.name)
        self._text = path.read_text(encoding="utf-8")
        self.tracks = "dynamic" in self._text

    def serve(self, site: Site, name: str, host: Host, scene: Scene) -> None:
        words = {"LB_MAC": host.mac, "LB_HEX": host.mac.replace(":", ""), "PORT": str(PORT), "PROTOCOL": scene.protocol}
        words.update({"BACKENDS": str(scene.backends), "VIPS": str(scene.vips)})

        def value(match: re.Match[str]) -> str:
            word, number = match[1], match[2]
            if number is None:
                return words.get(word, match[0])
            numbered = {
                "VIP": scene.vip,
                "BACKEND": scene.backend,
                "BACKEND_MAC": scene.mac,
                "BACKEND_MARK": _mark(scene),
            }
            return numbered[word](int(number)) if word in numbered else match[0]

        text = re.sub(r"(?<![A-Z_])([A-Z]+(?:_[A-Z]+)*)(?:_(\d+))?\b", value, self._text)
        _load(site, name, text)


def _mark(scene: Scene) -> Any:
    def mark(number: int) -> str:
        return "0x" + "".join(f"{int(part):02x}" for part in scene.backend(number).split("."))

    return mark


# What it has that stays with a flow.
NFTLB_HASH = {"scheduler": "hash", "sched-param": "srcip srcport"}


def all_peers() -> list[Peer]:
    """Everyone, in the order of the tables."""
    return [
        Direct("none", "no load balancer"),
        TcBpf("tc-bpf", "tc-bpf, constant MAC rewrite"),
        ConstantRewrite("constant", "nft, constant MAC rewrite"),
        Nftlb("nftlb-hash", "nftlb hash", NFTLB_HASH),
        Nftlb(
            "nftlb-persistence",
            "nftlb hash, persistence by flow",
            {**NFTLB_HASH, "persistence": "srcip srcport"},
        ),
        Nftlb("nftlb-client", "nftlb hash, persistence by client", {**NFTLB_HASH, "persistence": "srcip"}),
        Ours("source-hash", "ours source_hash", scheduler="source_hash"),
        Ours("connection-hash", "ours connection_hash", scheduler="connection_hash"),
        Ours("drain", "ours connection_hash, one draining", scheduler="connection_hash", drain=True),
        Ours("round-robin", "ours round_robin", scheduler="round_robin"),
        Ours("weighted-round-robin", "ours weighted_round_robin", scheduler="weighted_round_robin"),
        Ours("persistence", "ours round_robin, persistence", scheduler="round_robin", persistence_timeout=300),
        Ours(
            "hash-persistence",
            "ours connection_hash, persistence",
            scheduler="connection_hash",
            persistence_timeout=300,
        ),
    ]


def by_key(peers: Sequence[Peer], keys: Sequence[str]) -> list[Peer]:
    """The peers with these keys, in this order."""
    known: Mapping[str, Peer] = {peer.key: peer for peer in peers}
    missing = [key for key in keys if key not in known]
    if missing:
        raise LabError(f"there is no peer {', '.join(missing)}; there are: {', '.join(known)}")
    return [known[key] for key in keys]
