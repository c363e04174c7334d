/* Programs that run for the host: their descriptors, and the data between these and their stream. */
#include "agent.h"
#include "boot.h"
#include "first.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

struct job *jobs;

struct ends {
    int input[2], output[2], errors[2], refusal[2];
};

struct job *find_job(uint32_t stream) {
    for (struct job *job = jobs; stream && job; job = job->next)
        if (job->stream == stream)
            return job;
    return NULL;
}

static void close_ends(struct ends *ends) {
    int *all = &ends->input[0];
    for (size_t i = 0; i < sizeof(*ends) / sizeof(int); i++)
        close_fd(&all[i]);
}

/* Index 0 is the agent's end, 1 the program's. */
static int open_pair(int pair[2], bool to_program) {
    int made[2];
    if (pipe2(made, O_CLOEXEC) < 0)
        return errno;
    pair[to_program ? 1 : 0] = made[0];
    pair[to_program ? 0 : 1] = made[1];
    return 0;
}

/* Of the guest's own devpts, so that the program finds its terminal under its name. */
static int open_master(void) {
    int flags = O_RDWR | O_NOCTTY | O_CLOEXEC | O_NONBLOCK;
    int master = system_image ? openat(proc_fd, "1/root/dev/pts/ptmx", flags) : -1;
    if (master < 0)
        master = open("/dev/ptmx", flags);
    return master;
}

static int open_terminal(struct ends *ends, const struct command *c) {
    struct winsize size = {.ws_row = c->rows ? c->rows : 25, .ws_col = c->columns ? c->columns : 80};
    int master = open_master(), locked = 0;
    if (master < 0)
        return errno;
    int slave = ioctl(master, TIOCSPTLCK, &locked) < 0 ? -1 : ioctl(master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
    if (slave < 0) {
        close(master);
        return ENODEV;
    }
    ioctl(master, TIOCSWINSZ, &size);
    if (fchown(slave, c->uid, (gid_t)-1) < 0 && errno != EPERM) {
        close(master);
        close(slave);
        return errno;
    }
    ends->input[0] = master;
    ends->input[1] = slave;
    return 0;
}

static int open_ends(struct ends *ends, const struct command *c) {
    int error;
    *ends = (struct ends){{-1, -1}, {-1, -1}, {-1, -1}, {-1, -1}};
    if ((error = open_pair(ends->refusal, false)))
        return error;
    if (c->terminal)
        return open_terminal(ends, c);
    if ((error = open_pair(ends->input, true)) || (error = open_pair(ends->output, false)))
        return error;
    return open_pair(ends->errors, false);
}

static _Noreturn void refuse(int fd, int error, const char *stage) {
    char text[256];
    int size = snprintf(text, sizeof(text), "%c%s: %s", error == ENOENT && stage[0] == 'p' ? 127 : 126,
                        stage, strerror(error));
    if (write(fd, text, (size_t)size) < 0)
        _exit(125);
    _exit(error == ENOENT && stage[0] == 'p' ? 127 : 126);
}

static _Noreturn void run_child(const struct command *c, struct ends *ends, int worker_root) {
    sigset_t none;
    int refusal = ends->refusal[1];
    const char *stage = "session";
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    signal(SIGPIPE, SIG_DFL);
    setsid();
    int input = ends->input[1];
    int output = c->terminal ? input : ends->output[1], errors = c->terminal ? input : ends->errors[1];
    if (c->terminal && ioctl(input, TIOCSCTTY, 0) < 0)
        refuse(refusal, errno, stage);
    if (worker_root < 0)
        protect(false);
    stage = "namespaces";
    int error = worker_root != 0 ? enter_guest() : 0;
    if (error)
        refuse(refusal, error, stage);
    if (dup2(input, 0) < 0 || dup2(output, 1) < 0 || dup2(errors, 2) < 0)
        refuse(refusal, errno, stage);
    if (worker_root >= 0) {
        int sys = fcntl(sys_fd, F_DUPFD, 5); /* each of them may have the number of the other */
        if (dup2(proc_fd, 3) < 0 || dup2(sys, 4) < 0 || close_range(5, ~0U, 0) < 0)
            refuse(refusal, errno, stage);
        proc_fd = 3;
        sys_fd = 4;
        serve_worker();
    }
    error = execute(c, &stage);
    refuse(refusal, error, stage);
}

static struct job *add_job(uint32_t stream, pid_t pid, struct ends *ends, bool terminal) {
    struct job *job = allocate(sizeof(*job));
    job->stream = stream;
    job->pid = pid;
    job->terminal = terminal;
    job->refusal_fd = ends->refusal[0];
    job->input = ends->input[0];
    job->output[0] = terminal ? dup(ends->input[0]) : ends->output[0];
    job->output[1] = ends->errors[0];
    job->ended[1] = terminal;
    job->granted = job->credit[0] = job->credit[1] = WINDOW;
    ends->refusal[0] = ends->input[0] = ends->output[0] = ends->errors[0] = -1;
    int fds[] = {job->refusal_fd, job->input, job->output[0], job->output[1]};
    for (size_t i = 0; i < 4; i++)
        if (fds[i] >= 0) {
            fcntl(fds[i], F_SETFD, FD_CLOEXEC);
            set_blocking(fds[i], false);
        }
    job->next = jobs;
    jobs = job;
    return job;
}

int start_job(uint32_t stream, struct command *c, int worker_root, struct job **made) {
    struct ends ends;
    size_t count = 0;
    for (struct job *job = jobs; job; job = job->next)
        count++;
    if (count >= MAX_JOBS)
        return EAGAIN;
    int error = open_ends(&ends, c);
    pid_t pid = error ? -1 : fork();
    if (pid == 0)
        run_child(c, &ends, worker_root);
    if (!error && pid < 0)
        error = errno;
    if (!error) {
        *made = add_job(stream, pid, &ends, c->terminal);
        (*made)->worker = worker_root >= 0;
    }
    close_ends(&ends);
    return error;
}

static void end_output(struct job *job, int which) {
    close_fd(&job->output[which]);
    if (!job->ended[which] && !job->closing)
        send_frame(job->stream, FRAME_END, (uint8_t)(which + 1), NULL, 0);
    job->ended[which] = true;
}

void job_data(struct job *job, const uint8_t *data, size_t size) {
    if (size > job->granted) { /* the host is trusted, but not to be without errors */
        job_close(job);
        return;
    }
    job->granted -= (uint32_t)size;
    if (job->input >= 0 && !job->input_ended)
        put_raw(&job->waiting, data, size);
}

void job_end_input(struct job *job) {
    job->input_ended = true;
    if (job->waiting.size == 0 && !job->terminal)
        close_fd(&job->input);
}

void job_credit(struct job *job, uint8_t channel, uint32_t more) {
    if ((channel == 1 || channel == 2) && job->credit[channel - 1] <= UINT32_MAX - more)
        job->credit[channel - 1] += more;
}

void job_signal(struct job *job, int number) {
    if (job->pid > 0)
        kill(job->pid, number);
}

void job_resize(struct job *job, uint16_t columns, uint16_t rows) {
    struct winsize size = {.ws_row = rows, .ws_col = columns};
    if (job->terminal && job->output[0] >= 0)
        ioctl(job->output[0], TIOCSWINSZ, &size);
}

void job_close(struct job *job) {
    job->closing = true;
    job_signal(job, SIGKILL);
    close_fd(&job->input);
    clear(&job->waiting);
    end_output(job, 0);
    end_output(job, 1);
}

/* It runs on without a host: what it says is lost. */
void job_close_streams(struct job *job) {
    job->closing = true;
    close_fd(&job->input);
    end_output(job, 0);
    end_output(job, 1);
}

void close_all_jobs(void) {
    for (struct job *job = jobs; job; job = job->next) {
        job_close(job);
        job->stream = 0;
    }
}

static void write_input(struct job *job) {
    ssize_t written = write(job->input, job->waiting.data, job->waiting.size);
    if (written < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (written < 0) { /* it reads no more: what is sent is discarded */
        written = (ssize_t)job->waiting.size;
        if (!job->terminal)
            close_fd(&job->input);
    }
    drop_front(&job->waiting, (size_t)written);
    job->taken += (uint32_t)written;
    if (job->taken >= WINDOW / 4) {
        struct buffer body = {0};
        put_u32(&body, job->taken);
        send_frame(job->stream, FRAME_CREDIT, 0, body.data, body.size);
        clear(&body);
        job->granted += job->taken;
        job->taken = 0;
    }
    if (job->waiting.size == 0 && job->input_ended && !job->terminal)
        close_fd(&job->input);
}

static void read_output(struct job *job, int which) {
    static uint8_t block[MAX_DATA];
    size_t size = job->credit[which] < sizeof(block) ? job->credit[which] : sizeof(block);
    ssize_t got = read(job->output[which], block, size);
    if (got < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (got <= 0) { /* a terminal without a program fails with EIO */
        end_output(job, which);
        return;
    }
    job->credit[which] -= (uint32_t)got;
    send_frame(job->stream, FRAME_DATA, (uint8_t)(which + 1), block, (size_t)got);
}

/* Input that nothing reads any more is taken from the host nevertheless, or it would wait. */
static void discard_input(struct job *job) {
    if (job->input < 0 && job->granted < WINDOW / 2 && !job->closing) {
        struct buffer body = {0};
        put_u32(&body, WINDOW - job->granted);
        send_frame(job->stream, FRAME_CREDIT, 0, body.data, body.size);
        clear(&body);
        job->granted = WINDOW;
        job->taken = 0;
    }
}

size_t poll_jobs(struct pollfd *polls) {
    size_t count = 0;
    for (struct job *job = jobs; job; job = job->next) {
        bool may_read = outgoing.size < MAX_PENDING && !job->closing;
        polls[count++] = (struct pollfd){job->input >= 0 && job->waiting.size ? job->input : -1, POLLOUT, 0};
        for (int which = 0; which < 2; which++) {
            bool wanted = may_read && job->output[which] >= 0 && job->credit[which];
            polls[count++] = (struct pollfd){wanted ? job->output[which] : -1, POLLIN, 0};
        }
    }
    return count;
}

static bool is_over(const struct job *job) {
    return job->exited && job->ended[0] && job->ended[1];
}

static void forget(struct job *job) {
    if (job->stream)
        send_frame(job->stream, FRAME_CLOSE, 0, NULL, 0);
    close_fd(&job->input);
    close_fd(&job->refusal_fd);
    clear(&job->waiting);
    free(job);
}

void serve_jobs(const struct pollfd *polls, size_t count) {
    size_t at = 0;
    for (struct job *job = jobs; job && at + 3 <= count; job = job->next, at += 3) {
        if (polls[at].revents && job->input >= 0 && job->waiting.size)
            write_input(job);
        for (int which = 0; which < 2; which++)
            if (polls[at + 1 + which].revents && job->output[which] >= 0)
                read_output(job, which);
        discard_input(job);
    }
    for (struct job **place = &jobs; *place;) {
        struct job *job = *place;
        if (is_over(job)) {
            *place = job->next;
            forget(job);
        } else {
            place = &job->next;
        }
    }
}

static void report_exit(struct job *job) {
    char text[257] = "";
    struct buffer body = {0};
    ssize_t size = read(job->refusal_fd, text, sizeof(text) - 1);
    if (size > 1)
        job->status = text[0];
    put_u32(&body, (uint32_t)job->status);
    put_text(&body, size > 1 ? text + 1 : "");
    if (job->stream)
        send_frame(job->stream, FRAME_EXIT, 0, body.data, body.size);
    clear(&body);
}

bool reap_job(pid_t pid, int status) {
    for (struct job *job = jobs; job; job = job->next) {
        if (job->pid != pid)
            continue;
        job->pid = 0;
        job->exited = true;
        job->status = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
        report_exit(job);
        return true;
    }
    return false;
}
