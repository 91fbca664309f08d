/* SPDX-License-Identifier: GPL-2.0-only */
/* lkm's guest agent: PID 1, one session process a control port, frames with lengths. */
#ifndef LKM_AGENT_H
#define LKM_AGENT_H

#include <stddef.h>
#include <stdint.h>

#define AGENT_PROTOCOL 2
#define AGENT_SESSIONS 4
#define FRAME_MAX (256u << 20)
/* A frame is one write, and a port sends one write of at most 32 KiB whole (port_fops_write()). */
#define CHUNK (32768 - 12)

enum op {
	/* requests */
	OP_PING = 1,
	OP_LOAD,
	OP_UNLOAD,
	OP_READ,
	OP_WRITE,
	OP_LIST,
	OP_EXEC,
	OP_KMSG,
	OP_CLOCK,
	OP_PARAMS,
	OP_STACKS,
	OP_POWEROFF,
	OP_STAT,
	OP_READLINK,
	OP_CHANGE,
	OP_OPEN,
	OP_FILE_CLOSE,
	OP_FILE_READ,
	OP_FILE_WRITE,
	OP_SEEK,
	OP_IOCTL,
	OP_POLL,
	OP_MAP,
	OP_UNMAP,
	OP_PEEK,
	OP_POKE,
	OP_PUT,
	OP_GET,
	OP_INVENTORY,
	OP_SETTLE,
	OP_IN_AND_OUT,
	OP_REQUESTS_END,
	/* while a program or a follow runs, from the host */
	OP_STDIN = 32,
	OP_STDIN_EOF,
	OP_SIGNAL,
	OP_WINSIZE,
	OP_STOP,
	OP_CLOSE, /* of a channel */
	/* from the guest: any number of these, then one OP_END */
	OP_DATA = 64,
	OP_LOG,
	OP_STDOUT,
	OP_STDERR,
	OP_END,
	OP_STARTED, /* a program, with its pid */
	OP_TAKEN, /* what came by OP_STDIN; only then more may come */
	/* from the guest, unasked: on the first port, OP_DIED also for a channel */
	OP_HELLO = 96,
	OP_DIED,
};

struct frame {
	uint32_t len; /* of what follows this header */
	uint16_t op;
	/* OP_END: 0, or a positive errno. OP_LOG: 1 for what was before the request. A request: 1 to be told that. */
	int16_t status;
	uint32_t id; /* of the request */
} __attribute__((packed));

struct session {
	int port;
	int from; /* where requests come from: the port, or for a channel its socket */
	int kmsg; /* this session's own position in the log */
	struct frame req;
	unsigned char *payload; /* req.len bytes and a NUL */
	int watched; /* what was logged since the last answer is told with the next one */
	int again; /* a new host began while the last request ran: serve `req` next */
};

/* port.c */
int port_open(const char *name);
int port_recv(int port, struct frame *req, unsigned char **payload);
int port_send(int port, uint16_t op, int status, uint32_t id, const void *data, size_t len);
int port_connected(int port);
void port_wait(int port);
void port_streams(int port, int on);

/* kmsg.c */
int kmsg_open(void);
void kmsg_flush(void);
void kmsg_begin(int kmsg);
int kmsg_drain(int kmsg, int port, uint32_t id, int earlier);
int kmsg_follow(struct session *s);

/* exec.c */
int exec_serve(struct session *s);

/* session.c */
void session_serve(int port, int kmsg) __attribute__((noreturn));
int session_send(struct session *s, uint16_t op, const void *data, size_t len);
int session_end(struct session *s, int status, const void *data, size_t len);
int session_interrupted(struct session *s, const struct frame *f, unsigned char *payload);
int session_answer(struct session *s);

/* mux.c */
void mux_serve(int port, int kmsg) __attribute__((noreturn));

/* window.c */
extern unsigned char *window;
extern size_t window_len;
void window_open(void);

/* inventory.c */
void inventory_open(void);
int inventory_make(struct session *s);
int inventory_settle(struct session *s);

/* file.c, path.c */
int file_answer(struct session *s);
int path_answer(struct session *s);

#endif
