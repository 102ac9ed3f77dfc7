/* What routes.c keeps. PLACE_BITS and SERIES are given when it is compiled. */
#pragma once

#define PLACES (1 << PLACE_BITS)

/* Of a place. Two open sockets whose cookies share their low bits are one too many: who works for a route keeps it. */
#define OWNER(cookie) ((u32)((cookie) >> PLACE_BITS) | 1u << 31)

/* A worker's: gateway/places.py. */
struct tag {
	u64 word;	 /* whose it is, in the lower half; series and flags */
	u64 accepted_ns; /* when the worker got the connection from the kernel; of clients' alone */
};

#define TAG_SERIES(word) ((u32)((word) >> 32) & 0xffff)
#define TAG_CLIENT (1ULL << 48)
#define TAG_FRESH (1ULL << 49) /* a new TLS connection: its first bytes may be session tickets, which answer nothing */

/* What passes on a connection. */
struct passage {
	u32 owner;   /* whose place it is; 0: nobody's */
	u32 at;	     /* unit of the last segment of a request, while its answer is due; then of the answer's last */
	u32 bytes;   /* of the answer under way that are not in the figures yet */
	u16 series;  /* in which it counts as open */
	u8 packets;  /* of answers, until RTT is looked at again */
	u8 state;
};

#define UPSTREAM 1 /* neither: it is not for us */
#define CLIENT 2
#define DUE 4	    /* a request has gone, its answer has not begun */
#define ANSWERING 8 /* the answer has begun */
#define FRESH 16    /* what comes now may be no answer */
#define CLOSED 32   /* a window is: one side takes nothing more. A hint: two processors may write `state` at once */
#define ACCEPTED 64 /* its wait for accept() has been counted */
#define WATCHED 128 /* its end will be told */

/* What else is known of a connection. */
struct details {
	u64 since_ns;	  /* an upstream's connect, a client's handshake; 0: before these programs */
	u64 peer_full_ns; /* since when the peer takes nothing more */
	u64 we_full_ns;	  /* since when we take nothing more */
	u32 early_bytes;  /* a client's first ones, which come before its worker knows what for */
	u32 misses;	  /* data packets without a tag */
};

/* One series on one CPU. Python: gateway/probes/figures.py. */
struct figures {
	u32 connect[BUCKETS];
	u32 rtt[BUCKETS];
	u32 first_byte[BUCKETS];
	u32 gap[BUCKETS];
	u32 client_rtt[BUCKETS];
	u32 client_first_byte[BUCKETS];
	u32 accept_wait[BUCKETS];
	u64 bytes_out; /* to the upstream */
	u64 bytes_in;
	u64 client_bytes_out;
	u64 client_bytes_in;
	u64 retransmits;
	u64 client_retransmits;
	u64 resets_in; /* sent by the upstream */
	u64 resets_out;
	u64 client_resets_in; /* sent by the client */
	u64 client_resets_out;
	u64 full_ns; /* the upstream took nothing more */
	u64 we_full_ns;
	u64 client_full_ns; /* the client took nothing more */
	u64 client_we_full_ns;
	s64 open;
	s64 client_open;
	u64 connections;
	u64 client_connections;
};
