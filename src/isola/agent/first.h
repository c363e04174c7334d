/* The parts of the first process: its program, and the relays between it and the devices of its output. */
#ifndef ISOLA_FIRST_H
#define ISOLA_FIRST_H

#include "agent.h"

int start_program(struct plan *plan, pid_t *pid);
int program_status(int status);
const char *program_refusal(void);
bool program_drained(void);
void flush_program(void);
size_t poll_relays(struct pollfd *polls);
void serve_relays(const struct pollfd *polls, size_t count);
int relay_timeout(void);
int open_device(const char *name, int flags); /* a path, or the name of a virtio-serial port; -1: there is none */
_Noreturn void fail_init(int fd, const char *why);
void job_close_streams(struct job *job);
extern const char *scratch;
void join_system(void); /* whose init is PID 1, and was started without us */

int open_pair_of_terminal(int *master, int *slave);
void set_window(int fd, uint16_t columns, uint16_t rows);
int bind_console(int master);
int send_text(int socket_fd, const char *text, int fd);
ssize_t receive_text(int socket_fd, char *text, size_t room, int *fd);
int relay_console(const char *port, int master);
extern int console_master;

#endif
