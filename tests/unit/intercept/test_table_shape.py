"""What stands under a table's name, read from what libnftables prints (as 1.0.6 printed it, terse and numeric)."""

from gateway.intercept.tables import Present, present_of

PRINTED = """\
table inet sluicegate_capture { # progname python
	flags owner

	set hb {
		type inet_proto
		flags timeout
	}

	set d4_1 {
		type ipv4_addr
		flags interval
		auto-merge
	}

	counter captured_1 {
		packets 12 bytes 720
	}

	chain pre {
		type filter hook prerouting priority -150; policy accept;
		iif "lo" socket transparent 1 meta mark set meta mark | 0x00000400 accept
		ip daddr { 127.0.0.0/8, 169.254.0.0/16, 224.0.0.0/4 } return
		ip daddr @d4_1 tcp dport { 80, 443 } meta l4proto @hb tproxy ip to :4567 counter name "captured_1" accept
	}

	chain quic {
		type filter hook forward priority 0; policy accept;
	}
}
"""


def test_sets_counters_chains_and_rules() -> None:
    wanted = Present(sets={"hb", "d4_1"}, counters={"captured_1"}, chains={"pre", "quic"}, rules=3)
    assert present_of(PRINTED) == wanted
    assert present_of("table inet sluicegate {\n}\n") == Present()
