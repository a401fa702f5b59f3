import { Paper, Title } from "@mantine/core";
import { type ReactNode, useId } from "react";
import classes from "./Panel.module.css";

interface PanelProps {
  title: string;
  aside?: ReactNode;
  children: ReactNode;
}

/** A titled part of a page; its failures stay inside it. */
export function Panel({ title, aside, children }: PanelProps) {
  const heading = useId();
  return (
    <Paper component="section" aria-labelledby={heading} withBorder radius="md" className={classes.panel}>
      <header className={classes.header}>
        <Title order={2} size="h4" id={heading}>
          {title}
        </Title>
        {aside}
      </header>
      {children}
    </Paper>
  );
}
