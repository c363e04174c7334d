/* Requests of the host: each is answered, or opens a stream of a program. */
#include "agent.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static void answer(uint32_t stream, const struct buffer *body) {
    send_frame(stream, FRAME_ANSWER, 0, body ? body->data : NULL, body ? body->size : 0);
}

static void finish(uint32_t stream, int error, const char *what) {
    if (error)
        send_error(stream, error, *what ? what : strerror(error));
    else
        answer(stream, NULL);
}

static void run_job(uint32_t stream, struct command *c, int worker_root) {
    struct job *job;
    int error = start_job(stream, c, worker_root, &job);
    if (error) {
        send_error(stream, error, strerror(error));
        return;
    }
    struct buffer body = {0};
    put_u32(&body, (uint32_t)job->pid);
    answer(stream, &body);
    clear(&body);
}

static void handle_exec(uint32_t stream, struct reader *r) {
    struct command c;
    read_command(r, &c);
    inherit_limits(&c);
    if (!all_read(r))
        send_error(stream, EINVAL, "a malformed command");
    else if (!may_enter())
        send_error(stream, ENOTCONN, "the first process is not running");
    else
        run_job(stream, &c, -1);
    free_command(&c);
}

static void handle_worker(uint32_t stream, struct reader *r) {
    struct command none = {0};
    int root = get_u8(r);
    if (!all_read(r) || root > 1)
        send_error(stream, EINVAL, "a malformed request");
    else if (root && !may_enter())
        send_error(stream, ENOTCONN, "the first process is not running");
    else
        run_job(stream, &none, root);
}

static void handle_first(uint32_t stream, enum method method, const uint8_t *body, size_t size) {
    char why[512] = "";
    int error = method == METHOD_PREPARE ? prepare_first(body, size, why, sizeof(why)) : start_first(why, sizeof(why));
    finish(stream, error, why);
}

static int set_clock(struct reader *r) {
    uint64_t ns = get_u64(r);
    struct timespec now = {.tv_sec = (time_t)(ns / 1000000000), .tv_nsec = (long)(ns % 1000000000)};
    if (!all_read(r))
        return EINVAL;
    return clock_settime(CLOCK_REALTIME, &now) < 0 ? errno : 0;
}

static int signal_first(struct reader *r) {
    int number = (int)get_u32(r);
    if (!all_read(r))
        return EINVAL;
    if (first_state != FIRST_RUNNING)
        return ESRCH;
    return kill(first_pid, number) < 0 ? errno : 0;
}

static int change(enum method method, struct reader *r) {
    uint16_t columns;
    switch (method) {
    case METHOD_PING:
        return 0;
    case METHOD_CONFIGURE:
        return configure(r);
    case METHOD_SIGNAL:
        return signal_first(r);
    case METHOD_STOP:
        return stop_first();
    case METHOD_CLOCK:
        return set_clock(r);
    case METHOD_IDENTITY:
        return set_identity(r);
    case METHOD_RESIZE:
        columns = get_u16(r);
        resize_first(columns, get_u16(r));
        return 0;
    case METHOD_POWER:
        if (!is_init)
            return EPERM;
        power(get_u8(r) == 1);
        return 0;
    default:
        return ENOSYS;
    }
}

void handle_request(uint32_t stream, const uint8_t *payload, size_t size) {
    struct reader r = {payload, size, false};
    enum method method = get_u16(&r);
    struct buffer body = {0};
    if (r.bad || stream == 0 || find_job(stream)) {
        send_error(stream, EINVAL, "a malformed request");
    } else if (method == METHOD_EXEC) {
        handle_exec(stream, &r);
    } else if (method == METHOD_WORKER) {
        handle_worker(stream, &r);
    } else if (method == METHOD_PREPARE || method == METHOD_START) {
        handle_first(stream, method, r.at, r.left);
    } else if (method == METHOD_STATS) {
        report_stats(&body);
        answer(stream, &body);
    } else if (method == METHOD_PROCESSES) {
        report_processes(&body);
        answer(stream, &body);
    } else if (method == METHOD_INTERFACES) {
        int error = report_interfaces(&body);
        if (error)
            send_error(stream, error, strerror(error));
        else
            answer(stream, &body);
    } else {
        finish(stream, change(method, &r), "");
    }
    clear(&body);
}
