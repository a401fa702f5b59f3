import { Button, PasswordInput } from "@mantine/core";
import { type FormEvent, useState } from "react";
import { signIn } from "../../../lib/session";
import classes from "./SignInForm.module.css";

/** Asks for an API key. `refusal` tells why the last one did not do. */
export function SignInForm({ refusal }: { refusal?: string }) {
  const [key, setKey] = useState("");
  const trimmed = key.trim();

  function submit(event: FormEvent) {
    event.preventDefault();
    if (trimmed !== "") signIn(trimmed);
  }

  return (
    <form className={classes.form} onSubmit={submit}>
      <PasswordInput
        className={classes.field}
        label="API key"
        description="Kept in this tab only and forgotten when it closes. trimtab serve prints the first key once."
        placeholder="tt_…"
        required
        withAsterisk={false}
        autoComplete="off"
        spellCheck={false}
        value={key}
        onChange={(event) => setKey(event.currentTarget.value)}
        error={refusal}
      />
      <Button type="submit">Show deployments</Button>
    </form>
  );
}
