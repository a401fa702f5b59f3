import { Anchor, Button, Text } from "@mantine/core";
import { Link, Outlet } from "@tanstack/react-router";
import { Icon } from "../components/icons";
import { signOut, useApiKey } from "../lib/session";
import classes from "./Shell.module.css";

/** What surrounds every page. */
export function Shell() {
  const signedIn = useApiKey() !== null;
  return (
    <>
      <header className={classes.header}>
        <div className={classes.bar}>
          <Link to="/" className={classes.brand}>
            <img src="/favicon.svg" alt="" width={28} height={28} />
            <span>Trimtab</span>
          </Link>
          {signedIn && (
            <Button variant="default" size="sm" leftSection={<Icon name="key" size={16} />} onClick={signOut}>
              Forget key
            </Button>
          )}
        </div>
      </header>
      <main className={classes.main}>
        <Outlet />
      </main>
    </>
  );
}

/** An address that leads nowhere. */
export function NotFound() {
  return (
    <>
      <Text fw={600} size="lg" component="h1">
        There is no page at this address
      </Text>
      <Anchor component={Link} to="/" underline="always">
        Go to the overview
      </Anchor>
    </>
  );
}
