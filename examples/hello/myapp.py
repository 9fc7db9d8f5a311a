from jobmaster import JobMaster

jm = JobMaster("hello")  # its jobs are in jobmaster.db, beside this file


@jm.task
def hello(name: str) -> str:
    return f"Hello {name}"


@jm.every("every 5 seconds")  # or "every day at 02:30", Cron("30 2 * * *"), timedelta(hours=1)
def say_hello() -> None:
    print("Hello from a schedule", flush=True)


if __name__ == "__main__":
    result = hello.delay(name="John")
    print("accepted as", result.id)
    print(result.get(timeout=10))
